"""A batch as the arguments of `journal_write`, and its answer as one outcome for each caller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from asyncpg.pgproto.pgproto import UUID

from mesh_core.journal.outcomes import COMMITTED, REFUSED, Duplicate, Mismatch, Outcome
from mesh_core.journal.rows import (
    AccountRef,
    Action,
    ContentUpdate,
    Credential,
    Disconnect,
    Event,
    FetchDone,
    FetchRetry,
    InboundMessage,
    MemberReceipt,
    OutboundMessage,
    Row,
    Session,
    StatusChange,
    may_become,
)

Unit = tuple[AccountRef, OutboundMessage | Sequence[Row]]
"""What is stored whole or not at all: an outbound message, or rows of one account."""

ARGUMENTS = 40
"""How many arguments of `journal_write` `Columns.arguments` fills: all but incarnation, number and what is
given back.
"""


class Answer(msgspec.Struct, frozen=True):
    """What `journal_write` says of a batch that is not plain success; row numbers count from 1."""

    refused: frozenset[int] = frozenset()
    message: dict[int, tuple[str, bool]] = {}
    action: dict[int, tuple[str, bool]] = {}
    repeat: dict[int, str] = {}


class Columns:
    """The columns of a batch, filled unit by unit. Several changes of one message's status become one."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self._accounts: dict[AccountRef, int] = {}
        self._message_accounts: list[int] = []
        self._messages: list[OutboundMessage] = []
        self._statuses: dict[UUID, _Status] = {}
        self._events: list[tuple[int, Event, int | None]] = []
        self._states: dict[AccountRef, tuple[int, bytes]] = {}
        self._inbound: list[tuple[Any, ...]] = []
        self._actions: list[tuple[Any, ...]] = []
        self._sessions: dict[AccountRef, tuple[Any, ...]] = {}
        self._disconnects: list[tuple[Any, ...]] = []
        self._contents: dict[UUID, tuple[Any, ...]] = {}
        self._fetches: dict[UUID, tuple[Any, ...]] = {}
        self._receipts: list[tuple[Any, ...]] = []
        accounts = self._accounts
        for owner, what in units:
            row = accounts.get(owner)
            if row is None:
                accounts[owner] = row = len(accounts) + 1
            if isinstance(what, OutboundMessage):
                self._message_accounts.append(row)
                self._messages.append(what)
                if what.state is not None:
                    self._states[owner] = (row, what.state)
            else:
                for part in what:
                    _ADD[part.__class__](self, owner, row, part)

    def arguments(self) -> list[list[Any]]:
        """In the order of `journal_write`."""
        accounts, messages, statuses, events = (
            self._accounts,
            self._messages,
            self._statuses.values(),
            self._events,
        )
        states = self._states.values()
        return [
            [owner.shard for owner in accounts],
            [owner.epoch for owner in accounts],
            [owner.uuid for owner in accounts],
            [owner.tenant for owner in accounts],
            self._message_accounts,
            [m.id for m in messages],
            [m.method for m in messages],
            [m.request_id or None for m in messages],
            [m.digest for m in messages],
            [m.chat for m in messages],
            [m.content for m in messages],
            [m.event.id for m in messages],
            [m.event.type for m in messages],
            [m.event.body for m in messages],
            _sparse([m.network_id or None for m in messages]),
            _sparse([m.traceparent or None for m in messages]),
            _sparse([m.priority or None for m in messages]),
            _sparse([m.due_at for m in messages]),
            [s.account for s in statuses],
            [s.message for s in statuses],
            [s.status for s in statuses],
            [s.time for s in statuses],
            _sparse([s.sent_time for s in statuses]),
            _sparse([s.failure for s in statuses]),
            _sparse([s.failure_detail for s in statuses]),
            _sparse([s.network_id for s in statuses]),
            [account for account, _, _ in events],
            [event.id for _, event, _ in events],
            [event.type for _, event, _ in events],
            [event.body for _, event, _ in events],
            _sparse([status for _, _, status in events]),
            [account for account, _ in states],
            [blob for _, blob in states],
            self._inbound,
            self._actions,
            [*self._sessions.values()],
            self._disconnects,
            [*self._contents.values()],
            [*self._fetches.values()],
            self._receipts,
        ]

    def _status(self, _owner: AccountRef, account: int, change: StatusChange) -> None:
        status = self._statuses.get(change.message)
        if status is None:
            self._statuses[change.message] = status = _Status(account, len(self._statuses) + 1, change)
        else:
            status.merge(change)
        if change.event is not None:
            self._events.append((account, change.event, status.row))

    def _event(self, _owner: AccountRef, account: int, event: Event) -> None:
        self._events.append((account, event, None))

    def _credential(self, owner: AccountRef, account: int, credential: Credential) -> None:
        self._states[owner] = (account, credential.blob)

    def _session(self, owner: AccountRef, account: int, s: Session) -> None:
        self._sessions[owner] = (account, *[getattr(s, name) for name in _SESSION])

    def _inbound_message(self, _owner: AccountRef, account: int, m: InboundMessage) -> None:
        self._inbound.append(
            (
                account,
                m.id,
                m.network_id,
                m.direction,
                m.status,
                m.chat,
                m.content,
                m.traceparent,
                m.network_time,
                m.event.id,
                m.event.type,
                m.event.body,
                m.media,
            )
        )

    def _action(self, _owner: AccountRef, account: int, a: Action) -> None:
        event = (None, None, None) if a.event is None else (a.event.id, a.event.type, a.event.body)
        self._actions.append((account, a.method, a.request_id, a.digest, a.result, *event))

    def _disconnect(self, _owner: AccountRef, account: int, d: Disconnect) -> None:
        self._disconnects.append(
            (account, d.id, d.cause, d.detail, d.node, d.connect_time, d.disconnect_time)
        )

    def _content(self, _owner: AccountRef, account: int, update: ContentUpdate) -> None:
        self._contents[update.message] = (account, update.message, update.content)

    def _fetch_done(self, _owner: AccountRef, account: int, fetch: FetchDone) -> None:
        self._fetches[fetch.message] = (account, fetch.message, None)

    def _fetch_retry(self, _owner: AccountRef, account: int, fetch: FetchRetry) -> None:
        self._fetches[fetch.message] = (account, fetch.message, fetch.due_at)

    def _receipt(self, _owner: AccountRef, account: int, r: MemberReceipt) -> None:
        self._receipts.append((account, r.message, r.member, r.status, r.time))


class _Status:
    """One message's change of status in a batch: the last legal one, with the time of SENT on the way."""

    __slots__ = (
        "account",
        "failure",
        "failure_detail",
        "message",
        "network_id",
        "row",
        "sent_time",
        "status",
        "time",
    )

    def __init__(self, account: int, row: int, change: StatusChange) -> None:
        self.account, self.row, self.message = account, row, change.message
        self.status, self.time = change.status, change.time
        self.sent_time = change.time if change.status == _SENT else None
        self.failure, self.failure_detail, self.network_id = (
            change.failure,
            change.failure_detail,
            change.network_id,
        )

    def merge(self, change: StatusChange) -> None:
        if change.status == _SENT and self.sent_time is None:
            self.sent_time = change.time
        if change.network_id is not None:
            self.network_id = change.network_id
        if may_become(self.status, change.status):
            self.status, self.time = change.status, change.time
            self.failure, self.failure_detail = change.failure, change.failure_detail


_SENT = 3
_SESSION = Session.__struct_fields__
_ADD: dict[type, Callable[[Columns, AccountRef, int, Any], None]] = {
    StatusChange: Columns._status,
    Event: Columns._event,
    InboundMessage: Columns._inbound_message,
    Action: Columns._action,
    Session: Columns._session,
    Disconnect: Columns._disconnect,
    Credential: Columns._credential,
    ContentUpdate: Columns._content,
    FetchDone: Columns._fetch_done,
    FetchRetry: Columns._fetch_retry,
    MemberReceipt: Columns._receipt,
}


def outcomes(units: Sequence[Unit], answer: Answer) -> list[Outcome]:
    """The outcome of each unit, in order. A unit of rows has that of its first row that was not stored."""
    result: list[Outcome] = []
    accounts: dict[AccountRef, int] = {}
    message = action = inbound = 0
    for owner, what in units:
        outcome: Outcome = COMMITTED
        if isinstance(what, OutboundMessage):
            message += 1
            outcome = _told(answer.message.get(message))
        else:
            for row in what:
                told: Outcome = COMMITTED
                if isinstance(row, InboundMessage):
                    inbound += 1
                    first = answer.repeat.get(inbound)
                    told = COMMITTED if first is None else Duplicate(UUID(first))
                elif isinstance(row, Action):
                    action += 1
                    told = _told(answer.action.get(action))
                if outcome is COMMITTED:
                    outcome = told
        if accounts.setdefault(owner, len(accounts) + 1) in answer.refused:
            outcome = REFUSED
        result.append(outcome)
    return result


def _told(first: tuple[str, bool] | None) -> Outcome:
    if first is None:
        return COMMITTED
    result, same_payload = first
    return Duplicate(UUID(result)) if same_payload else Mismatch(UUID(result))


Value = TypeVar("Value")


def _sparse(column: list[Value | None]) -> list[Value | None]:
    """Nothing instead of nulls alone: `unnest` fills a shorter array up with nulls, and most batches have
    none of these.
    """
    return column if any(value is not None for value in column) else []
