"""A session as the API shows it, and as its row stores it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from mesh_session_node.events import timestamp
from mesh_session_node.journal import SessionSnapshot
from sessionmesh.v1 import session_pb2 as pb

if TYPE_CHECKING:
    from mesh_session_node.session.session import Session


def view(session: Session) -> pb.Session:
    """As the API shows it."""
    sent, received, failed, connects = session.counters.values()
    shown = pb.Session(
        account_id=session.id,
        tenant_id=session.events.tenant_id,
        state=session.state,
        cause=session.cause,
        detail=session.detail,
        phone=session.phone or session.account.phone,
        network_user_id=session.user_id,
        push_name=session.push_name,
        paired=session.paired,
        node_id=session.host.node_id,
        epoch=session.ref.epoch,
        recent_failures=len(session.failures.recent(time.monotonic())),
        update_time=timestamp(session.update_time),
        counters=pb.SessionCounters(
            sent=sent, received=received, failed=failed, connects=connects, queued=session.sender.queued
        ),
    )
    if session.connected_at is not None:
        shown.connect_time.CopyFrom(timestamp(session.connected_at))
    if (heard := _last_heard(session)) is not None:
        shown.last_heard_time.CopyFrom(timestamp(heard))
    if session.next_connect is not None:
        shown.next_connect_time.CopyFrom(timestamp(session.next_connect))
    return shown


def stored(session: Session) -> SessionSnapshot:
    """The row, with the counters as they are now: they count as stored from here on."""
    session.counters.stored = session.counters.values()
    sent, received, failed, connects = session.counters.stored
    return SessionSnapshot(
        node=session.host.node_id,
        state=session.state,
        cause=session.cause,
        detail=session.detail,
        phone=session.phone,
        network_user_id=session.user_id,
        push_name=session.push_name,
        paired=session.paired,
        recent_failures=len(session.failures.recent(time.monotonic())),
        sent=sent,
        received=received,
        failed=failed,
        connects=connects,
        settings=session.settings,
        connect_time=session.connected_at,
        last_heard_time=_last_heard(session),
        next_connect_time=session.next_connect,
        update_time=session.update_time,
    )


def _last_heard(session: Session) -> int | None:
    """Microseconds since the epoch; None without a connection."""
    if session.link is None:
        return None
    return time.time_ns() // 1000 - int((session.host.loop.time() - session.link.heard) * 1e6)
