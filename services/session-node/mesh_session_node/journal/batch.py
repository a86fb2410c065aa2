"""A batch as the arguments of `journal_write`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from asyncpg.pgproto.pgproto import UUID

from mesh_core.message_status import same_for_all
from mesh_session_node.journal.merged_status import MergedStatus
from mesh_session_node.journal.rows import (
    AccountRecord,
    AccountRef,
    Action,
    ChatChange,
    ContentUpdate,
    Credential,
    Disconnect,
    DriverRow,
    Event,
    FetchBegin,
    FetchDone,
    FetchRetry,
    ForgetDriverRows,
    InboundMessage,
    InPlace,
    JobStep,
    MediaUse,
    OutboundMessage,
    PersonIdentity,
    ReceiptPart,
    Row,
    SessionSnapshot,
    StatusChange,
)

Unit = tuple[AccountRef, OutboundMessage | Sequence[Row]]
"""What is stored whole or not at all: an outbound message, or rows of one account."""


class Columns:
    """The columns of a batch, filled unit by unit. Several changes of one message's status become one.

    An account stands once in a batch; rows of the other kinds begin with its row number, counted from 1.
    """

    def __init__(self, units: Sequence[Unit]) -> None:
        self._accounts: dict[AccountRef, int] = {}
        self._message_accounts: list[int] = []
        self._messages: list[OutboundMessage] = []
        self._statuses: list[MergedStatus] = []
        self._last_status: dict[UUID, MergedStatus] = {}
        self._event_accounts: list[int] = []
        self._events: list[Event] = []
        self._event_gates: list[tuple[MergedStatus, int | None] | None] = []
        self._states: dict[AccountRef, tuple[int, bytes]] = {}
        self._driver_rows: dict[tuple[int, str | None], tuple[Any, ...]] = {}
        self._inbound: list[tuple[Any, ...]] = []
        self._actions: list[tuple[Any, ...]] = []
        self._answers: list[tuple[Any, ...]] = []
        self._records: dict[tuple[int, int, str, str], tuple[Any, ...]] = {}
        self._chats: dict[tuple[int, str], tuple[Any, ...]] = {}
        self._sessions: dict[AccountRef, tuple[Any, ...]] = {}
        self._disconnects: list[tuple[Any, ...]] = []
        self._contents: dict[UUID, tuple[Any, ...]] = {}
        self._places: list[tuple[Any, ...]] = []
        self._fetches: dict[UUID, tuple[Any, ...]] = {}
        self._marks: list[tuple[Any, ...]] = []
        self._uses: list[tuple[Any, ...]] = []
        self._people: dict[tuple[int, str], tuple[Any, ...]] = {}
        self._parts: list[tuple[Any, ...]] = []
        self._jobs: dict[UUID, tuple[Any, ...]] = {}
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
                if what.media is not None:
                    self._media_use(owner, row, what.media)
            else:
                for part in what:
                    _ADD[part.__class__](self, owner, row, part)

    def arguments(self) -> list[list[Any]]:
        """One list for each column of `COLUMNS`, in their order."""
        arguments: list[list[Any]] = []
        rows: Collection[Any] = ()
        source = None
        for rows_of, values_of, sparse in _PLAN:
            if rows_of is not source:
                source = rows_of
                rows = rows_of(self)
            values = values_of(rows) if rows else []
            arguments.append([] if sparse and values.count(None) == len(values) else values)
        return arguments

    def _status(self, _owner: AccountRef, account: int, change: StatusChange) -> None:
        status = self._last_status.get(change.message)
        if status is not None and same_for_all(status.status, change.status):
            return
        if status is None or not status.merge(change):
            round_ = 0 if status is None else status.round + 1
            status = MergedStatus(account, len(self._statuses) + 1, round_, change)
            self._statuses.append(status)
            self._last_status[change.message] = status
        if change.event is not None:
            self._add_event(account, change.event, (status, change.status if change.again else None))

    def _event(self, _owner: AccountRef, account: int, event: Event) -> None:
        self._add_event(account, event)

    def _add_event(
        self,
        account: int,
        event: Event,
        status: tuple[MergedStatus, int | None] | None = None,
    ) -> None:
        """An event, and what it tells of: it is stored only if that is news."""
        self._event_accounts.append(account)
        self._events.append(event)
        self._event_gates.append(status)

    def _credential(self, owner: AccountRef, account: int, credential: Credential) -> None:
        self._states[owner] = (account, credential.blob)

    def _driver_row(self, _owner: AccountRef, account: int, row: DriverRow) -> None:
        self._driver_rows[account, row.key] = (account, row.key, row.value)

    def _forget_driver_rows(self, _owner: AccountRef, account: int, _forget: ForgetDriverRows) -> None:
        for key in [key for key in self._driver_rows if key[0] == account]:
            del self._driver_rows[key]
        self._driver_rows[account, None] = (account, None, None)

    def _session(self, owner: AccountRef, account: int, s: SessionSnapshot) -> None:
        self._sessions[owner] = (account, *_SESSION(s))

    def _inbound_message(self, _owner: AccountRef, account: int, m: InboundMessage) -> None:
        event = (None, None, None) if m.event is None else (m.event.id, m.event.type, m.event.body)
        self._inbound.append((account, *_INBOUND(m), *event, m.media))

    def _action(self, _owner: AccountRef, account: int, a: Action) -> None:
        event = (None, None, None) if a.event is None else (a.event.id, a.event.type, a.event.body)
        self._actions.append((account, a.method, a.request_id, a.digest, a.result, *event))
        if a.answer is not None:
            self._answers.append((account, a.result, a.answer))

    def _record(self, _owner: AccountRef, account: int, r: AccountRecord) -> None:
        row = (account, r.kind, r.key, r.member, r.value, r.time)
        self._records[row[:4]] = row

    def _chat(self, _owner: AccountRef, account: int, c: ChatChange) -> None:
        row, before = (account, *_CHAT(c)), self._chats.get((account, c.chat))
        if before is not None and not c.deleted:
            row = tuple(was if now is None else now for was, now in zip(before, row, strict=True))
            for flag in _FLAGS:
                row = (*row[:flag], before[flag] or row[flag], *row[flag + 1 :])
        self._chats[account, c.chat] = row

    def _disconnect(self, _owner: AccountRef, account: int, d: Disconnect) -> None:
        self._disconnects.append((account, *_DISCONNECT(d)))

    def _content(self, _owner: AccountRef, account: int, update: ContentUpdate) -> None:
        before = self._contents.get(update.message)
        edit_time = update.edit_time
        if edit_time is None and before is not None:
            edit_time = before[-1]
        self._contents[update.message] = (account, update.message, update.content, edit_time)

    def _in_place(self, _owner: AccountRef, account: int, m: InPlace) -> None:
        self._places.append((account, *_IN_PLACE(m)))

    def _fetch_begin(self, _owner: AccountRef, account: int, fetch: FetchBegin) -> None:
        self._marks.append((account, fetch.message, fetch.blob))

    def _fetch_done(self, _owner: AccountRef, account: int, fetch: FetchDone) -> None:
        self._fetches[fetch.message] = (account, fetch.message, None)

    def _fetch_retry(self, _owner: AccountRef, account: int, fetch: FetchRetry) -> None:
        self._fetches[fetch.message] = (account, fetch.message, fetch.due_at)

    def _media_use(self, _owner: AccountRef, account: int, use: MediaUse) -> None:
        self._uses.append((account, use.message, use.media, use.category, use.since))

    def _person(self, _owner: AccountRef, account: int, p: PersonIdentity) -> None:
        self._people[account, p.person] = (account, *_PERSON(p))

    def _receipt_part(self, _owner: AccountRef, account: int, r: ReceiptPart) -> None:
        self._parts.append((account, r.message, r.part, r.receipts))

    def _job_step(self, _owner: AccountRef, account: int, s: JobStep) -> None:
        self._jobs[s.job] = (account, s.job, s.state, s.detail, s.done, s.error)


# In the order of the fields of journal_inbound, journal_place, journal_session and journal_disconnect
_INBOUND = attrgetter(
    "id",
    "network_id",
    "direction",
    "status",
    "chat",
    "content",
    "traceparent",
    "network_time",
)
_IN_PLACE = attrgetter("message", "direction", "status", "chat", "content", "network_time", "edit_time")
_SESSION = attrgetter(*SessionSnapshot.__struct_fields__)
_CHAT = attrgetter(*ChatChange.__struct_fields__)
_FLAGS = [1 + ChatChange.__struct_fields__.index(field) for field in ("deleted", "cleared")]
_DISCONNECT = attrgetter("id", "cause", "detail", "node", "connect_time", "disconnect_time")
_PERSON = attrgetter(*PersonIdentity.__struct_fields__)
_ADD: dict[type, Callable[[Columns, AccountRef, int, Any], None]] = {
    StatusChange: Columns._status,
    Event: Columns._event,
    InboundMessage: Columns._inbound_message,
    Action: Columns._action,
    AccountRecord: Columns._record,
    ChatChange: Columns._chat,
    SessionSnapshot: Columns._session,
    Disconnect: Columns._disconnect,
    Credential: Columns._credential,
    DriverRow: Columns._driver_row,
    ForgetDriverRows: Columns._forget_driver_rows,
    ContentUpdate: Columns._content,
    InPlace: Columns._in_place,
    FetchBegin: Columns._fetch_begin,
    FetchDone: Columns._fetch_done,
    FetchRetry: Columns._fetch_retry,
    JobStep: Columns._job_step,
    MediaUse: Columns._media_use,
    PersonIdentity: Columns._person,
    ReceiptPart: Columns._receipt_part,
}


@dataclass(frozen=True, slots=True)
class Column:
    """An argument of `journal_write`: its name, its SQL type, and the values that a batch's rows have for it.

    A `sparse` one is sent as an empty array when all is None: `unnest` fills a shorter array up with nulls,
    and most batches have none of these.
    """

    name: str
    type: str
    rows_of: Callable[[Columns], Collection[Any]]
    values_of: Callable[[Collection[Any]], list[Any]] = list
    sparse: bool = False


_accounts, _messages, _events = attrgetter("_accounts"), attrgetter("_messages"), attrgetter("_events")
_statuses, _gates = attrgetter("_statuses"), attrgetter("_event_gates")


def _states(columns: Columns) -> Collection[tuple[int, bytes]]:
    return columns._states.values()


COLUMNS = (
    Column("a_shard", "smallint[]", _accounts, lambda accounts: [a.shard for a in accounts]),
    Column("a_epoch", "bigint[]", _accounts, lambda accounts: [a.epoch for a in accounts]),
    Column("a_account", "uuid[]", _accounts, lambda accounts: [a.uuid for a in accounts]),
    Column("a_tenant", "uuid[]", _accounts, lambda accounts: [a.tenant for a in accounts]),
    Column("m_acc", "int[]", attrgetter("_message_accounts")),
    Column("m_id", "uuid[]", _messages, lambda messages: [m.id for m in messages]),
    Column("m_method", "smallint[]", _messages, lambda messages: [m.method for m in messages]),
    Column("m_request", "text[]", _messages, lambda messages: [m.request_id or None for m in messages]),
    Column("m_digest", "bytea[]", _messages, lambda messages: [m.digest for m in messages]),
    Column("m_chat", "text[]", _messages, lambda messages: [m.chat for m in messages]),
    Column("m_content", "bytea[]", _messages, lambda messages: [m.content for m in messages]),
    Column("m_event", "uuid[]", _messages, lambda messages: [m.event.id for m in messages]),
    Column("m_type", "text[]", _messages, lambda messages: [m.event.type for m in messages]),
    Column("m_body", "bytea[]", _messages, lambda messages: [m.event.body for m in messages]),
    Column("m_network", "text[]", _messages, lambda messages: [m.network_id or None for m in messages], True),
    Column("m_trace", "text[]", _messages, lambda messages: [m.traceparent or None for m in messages], True),
    Column(
        "m_priority", "smallint[]", _messages, lambda messages: [m.priority or None for m in messages], True
    ),
    Column("m_due", "bigint[]", _messages, lambda messages: [m.due_at for m in messages], True),
    Column(
        "m_external", "text[]", _messages, lambda messages: [m.external_id or None for m in messages], True
    ),
    Column("m_labels", "text[]", _messages, lambda messages: [m.labels for m in messages], True),
    Column("s_acc", "int[]", _statuses, lambda statuses: [s.account for s in statuses]),
    Column("s_id", "uuid[]", _statuses, lambda statuses: [s.message for s in statuses]),
    Column("s_status", "smallint[]", _statuses, lambda statuses: [s.status for s in statuses]),
    Column("s_time", "bigint[]", _statuses, lambda statuses: [s.time for s in statuses]),
    Column("s_sent", "bigint[]", _statuses, lambda statuses: [s.sent_time for s in statuses], True),
    Column("s_failure", "smallint[]", _statuses, lambda statuses: [s.failure for s in statuses], True),
    Column("s_code", "int[]", _statuses, lambda statuses: [s.failure_code for s in statuses], True),
    Column("s_detail", "text[]", _statuses, lambda statuses: [s.failure_detail for s in statuses], True),
    Column("s_network", "text[]", _statuses, lambda statuses: [s.network_id for s in statuses], True),
    Column("s_round", "smallint[]", _statuses, lambda statuses: [s.round or None for s in statuses], True),
    Column("e_acc", "int[]", attrgetter("_event_accounts")),
    Column("e_id", "uuid[]", _events, lambda events: [e.id for e in events]),
    Column("e_type", "text[]", _events, lambda events: [e.type for e in events]),
    Column("e_body", "bytea[]", _events, lambda events: [e.body for e in events]),
    Column("e_status", "int[]", _gates, lambda gates: [gate and gate[0].row for gate in gates], True),
    Column(
        "e_become",
        "smallint[]",
        _gates,
        lambda gates: [gate and gate[0].become(gate[1]) for gate in gates],
        True,
    ),
    Column("c_acc", "int[]", _states, lambda states: [account for account, _ in states]),
    Column("c_blob", "bytea[]", _states, lambda states: [blob for _, blob in states]),
    Column("inbound", "journal_inbound[]", attrgetter("_inbound")),
    Column("actions", "journal_action[]", attrgetter("_actions")),
    Column("sessions", "journal_session[]", lambda columns: columns._sessions.values()),
    Column("disconnects", "journal_disconnect[]", attrgetter("_disconnects")),
    Column("contents", "journal_content[]", lambda columns: columns._contents.values()),
    Column("fetches", "journal_fetch[]", lambda columns: columns._fetches.values()),
    Column("marks", "journal_mark[]", attrgetter("_marks")),
    Column("people", "journal_person[]", lambda columns: columns._people.values()),
    Column("parts", "journal_receipt_part[]", attrgetter("_parts")),
    Column("places", "journal_place[]", attrgetter("_places")),
    Column("refs", "journal_reference[]", attrgetter("_uses")),
    Column("driver_rows", "journal_driver_row[]", lambda columns: columns._driver_rows.values()),
    Column("records", "journal_record[]", lambda columns: columns._records.values()),
    Column("answers", "journal_answer[]", attrgetter("_answers")),
    Column("chats", "journal_chat[]", lambda columns: columns._chats.values()),
    Column("jobs", "journal_job[]", lambda columns: columns._jobs.values()),
)
"""Everything that `journal_write` takes of a batch's rows; nothing else names or counts its arguments."""

_PLAN = [(column.rows_of, column.values_of, column.sparse) for column in COLUMNS]
