"""A session as the API shows it, and as its row stores it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Protocol

import msgspec

from mesh_core import validation
from mesh_session_node.account.connector import Connector
from mesh_session_node.account.state import Cause, State
from mesh_session_node.context.account_settings import AccountSettings
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.events import timestamp
from mesh_session_node.drivers.interface.content import Identity, person_of
from mesh_session_node.drivers.interface.state import DriverState
from mesh_session_node.journal import SessionSnapshot
from mesh_session_node.outbound.sender import Sender
from mesh_session_node.store.accounts import AccountRow
from sessionmesh.v1 import session_pb2 as pb


class Viewed(Protocol):
    """What is shown of a session. `update_time` is microseconds since the epoch."""

    context: SessionContext
    account: AccountRow
    connector: Connector
    sender: Sender
    state: State
    cause: Cause
    detail: str
    phone: str
    user_id: str
    hidden_id: str
    push_name: str
    restrictions: tuple[pb.Restriction, ...]
    update_time: int

    @property
    def paired(self) -> bool: ...


def view(session: Viewed) -> pb.Session:
    """As the API shows it."""
    context, connector = session.context, session.connector
    sent, received, failed, connects = context.counters.values()
    shown = pb.Session(
        account_id=context.id,
        tenant_id=context.events.tenant_id,
        state=session.state,
        cause=session.cause,
        detail=session.detail,
        paired=session.paired,
        node_id=context.host.node_id,
        epoch=context.ref.epoch,
        recent_failures=len(connector.failures.recent(time.monotonic())),
        update_time=timestamp(session.update_time),
        counters=pb.SessionCounters(
            sent=sent, received=received, failed=failed, connects=connects, queued=session.sender.queued
        ),
    )
    show_self(shown, session.phone, session.user_id, session.hidden_id, session.push_name)
    shown.restrictions.extend(standing(session.restrictions))
    if context.counters.last_inbound is not None:
        shown.last_inbound_time.CopyFrom(timestamp(context.counters.last_inbound))
    if connector.connected_at is not None:
        shown.connect_time.CopyFrom(timestamp(connector.connected_at))
    if (heard := _last_heard(context)) is not None:
        shown.last_heard_time.CopyFrom(timestamp(heard))
    if connector.next_connect is not None:
        shown.next_connect_time.CopyFrom(timestamp(connector.next_connect))
    return shown


def snapshot(session: Viewed) -> SessionSnapshot:
    """The row, with the counters as they are now: they count as stored from here on."""
    context, connector = session.context, session.connector
    context.counters.stored = context.counters.values()
    sent, received, failed, connects = context.counters.stored
    return SessionSnapshot(
        node=context.host.node_id,
        state=session.state,
        cause=session.cause,
        detail=session.detail,
        phone=session.phone,
        network_user_id=session.user_id,
        push_name=session.push_name,
        paired=session.paired,
        recent_failures=len(connector.failures.recent(time.monotonic())),
        sent=sent,
        received=received,
        failed=failed,
        connects=connects,
        settings=context.settings.stored,
        connect_time=connector.connected_at,
        last_heard_time=_last_heard(context),
        next_connect_time=connector.next_connect,
        update_time=session.update_time,
        hidden_id=session.hidden_id,
        last_inbound_time=context.counters.last_inbound,
        restrictions=pb.Session(restrictions=session.restrictions).SerializeToString(),
    )


def with_pairing(
    session: Viewed, state: DriverState, becomes: State, cause: Cause
) -> tuple[SessionSnapshot, pb.Session]:
    """The row and the view that the session has once it is paired so, while it is not yet."""
    now = time.time_ns() // 1000
    row = msgspec.structs.replace(
        snapshot(session),
        state=becomes,
        cause=cause,
        detail="",
        phone=state.phone,
        network_user_id=state.user_id,
        push_name=state.push_name,
        paired=True,
        recent_failures=0,
        update_time=now,
        hidden_id=state.hidden_id,
        restrictions=b"",
        settings=session.context.settings.paired_at(now).stored,
    )
    shown = view(session)
    shown.state, shown.cause, shown.detail = becomes, cause, row.detail
    show_self(shown, row.phone, row.network_user_id, row.hidden_id, row.push_name)
    shown.paired = row.paired
    shown.ClearField("restrictions")
    shown.recent_failures = row.recent_failures
    shown.update_time.CopyFrom(timestamp(now))
    return row, shown


def settings_view(settings: AccountSettings) -> pb.SessionSettings:
    """As the API shows them."""
    shown = pb.SessionSettings(has_proxy=bool(settings.proxy_url), etag=validation.etag(settings.version))
    shown.MergeFrom(settings.given)
    return shown


def show_self(shown: pb.Session, phone: str, user_id: str, hidden_id: str, display_name: str) -> None:
    """Show who the account is on the network; nothing before it is paired for the first time."""
    address = f"phone:{phone}" if phone else f"user:{user_id}" if user_id else ""
    if address:
        shown.self.CopyFrom(person_of(address, Identity(phone, user_id, hidden_id), display_name))


def standing(restrictions: Iterable[pb.Restriction]) -> Iterator[pb.Restriction]:
    """Those that have not ended yet."""
    now = time.time()
    return (r for r in restrictions if not r.HasField("until_time") or r.until_time.seconds > now)


def _last_heard(context: SessionContext) -> int | None:
    """Microseconds since the epoch; None without a connection."""
    if context.link is None:
        return None
    return time.time_ns() // 1000 - int((context.host.loop.time() - context.link.heard) * 1e6)
