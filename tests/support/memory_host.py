"""The node's side of a session, in memory, and one account between it and a network in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar, cast
from unittest.mock import AsyncMock, MagicMock

from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.requests import Method, RecordKind, payload_digest
from mesh_core.ids import Prefix, encode, new_uuid, shard_of
from mesh_session_node.account.reconnect import Dialer
from mesh_session_node.account.session import Session
from mesh_session_node.account.views import view
from mesh_session_node.context.account_settings import AccountSettings, settings_of
from mesh_session_node.context.context import Counters, SessionContext, SessionSettings
from mesh_session_node.context.events import EventMaker
from mesh_session_node.context.proxies import Proxies
from mesh_session_node.drivers.interface.outcomes import MemberReceipts, Receipt
from mesh_session_node.drivers.interface.state import DriverState, StateUnavailable
from mesh_session_node.drivers.memory.driver import MemoryDriver
from mesh_session_node.drivers.memory.state import MemoryState
from mesh_session_node.inbound.calls import Calls
from mesh_session_node.inbound.changes import ContentChanges
from mesh_session_node.inbound.notice_takers import notice_takers
from mesh_session_node.inbound.notices import Notices
from mesh_session_node.inbound.receiver import Receiver
from mesh_session_node.inbound.votes import Votes
from mesh_session_node.journal import (
    AccountRecord,
    AccountRef,
    ContentUpdate,
    Credential,
    InboundMessage,
    InPlace,
    OutboundMessage,
    PersonIdentity,
    Row,
    StatusChange,
)
from mesh_session_node.outbound.member_receipts import Gathering
from mesh_session_node.outbound.outgoing import AcceptedRow, Outgoing
from mesh_session_node.outbound.preparation import Prepared
from mesh_session_node.outbound.references import ReferenceLookup
from mesh_session_node.outbound.room import AccountRoom, NodeRoom
from mesh_session_node.outbound.sender import Sender
from mesh_session_node.store.accounts import NO_SESSION, AccountRow, SendLimits, SessionRow
from mesh_session_node.store.records import StoredRecord
from sessionmesh.v1 import content_pb2, message_pb2, session_pb2
from tests.support.memory_journal import MemoryJournal, turn

PHONE = "+4915100000001"
SOMEBODY = "+4915112345678"
SEALED = b"sealed:"
_OTHER_DEVICE = message_pb2.MESSAGE_ORIGIN_OTHER_DEVICE
AnyRow = TypeVar("AnyRow")
_NOTHING = {
    "status": 0,
    "failure": 0,
    "failure_code": None,
    "failure_detail": "",
    "traceparent": "",
    "update_time": None,
    "network_time": None,
    "edit_time": None,
}
"""What a stored message has of itself."""


class MemoryPreparation:
    """Stands for `Preparation`: what messages need comes when the test says so."""

    def __init__(self) -> None:
        self.waiting: dict[Outgoing, asyncio.Future[Prepared]] = {}

    async def prepare(self, _session: SessionContext, out: Outgoing) -> Prepared:
        self.waiting[out] = waiter = asyncio.Future[Prepared]()
        return await waiter


class MemoryRecords:
    """Stands for `RecordStore`: it has what the journal stored."""

    def __init__(self, journal: MemoryJournal) -> None:
        self._journal = journal

    async def of_key(self, _account: UUID, kind: int, key: str) -> list[StoredRecord]:
        found = {
            row.member: None if row.value is None else StoredRecord(row.member, row.value, row.time)
            for row in self._journal.rows
            if isinstance(row, AccountRecord) and (row.kind, row.key) == (kind, key)
        }
        return [record for record in found.values() if record is not None]

    async def one(
        self, _account: UUID, _kind: RecordKind, _key: str, _member: str = ""
    ) -> StoredRecord | None:
        return None

    async def page(self, _account: UUID, _kind: RecordKind, _after: str, _limit: int) -> list[StoredRecord]:
        return []


class MemoryReceipts:
    """Stands for `LateReceipts` and `ReceiptAcks`."""

    def __init__(self) -> None:
        self.gathering = Gathering()
        self.late: list[tuple[str, Receipt, str]] = []
        """Receipts of messages that were no longer in memory: network id, receipt, member."""
        self.stored: list[int] = []
        """The sequence numbers up to which receipts are to be acknowledged."""

    def add(
        self,
        _target: object,
        network_id: str,
        receipt: Receipt,
        _micros: int,
        told: MemberReceipts | None = None,
    ) -> None:
        members: Sequence[str] = [""] if told is None else told.members
        self.late += [(network_id, receipt, member) for member in members]

    def posted(self, _context: SessionContext, sequence: int) -> None:
        self.stored.append(sequence)


class MemoryMessages:
    """Stands for `MessageStore`, as far as sessions read messages."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.people: list[PersonIdentity] = []
        """Who people are, as it is stored: what was told last is last."""
        self.receipts = MagicMock(heard=AsyncMock(return_value={}))
        """What is stored of members."""
        self.unavailable = False
        """While set, the database does not answer."""

    def add(
        self,
        message: UUID,
        network_id: str,
        direction: int,
        content: bytes,
        chat: str = "phone:" + SOMEBODY,
        **columns: Any,
    ) -> None:
        """A message that is stored: `content` is a serialised request, or a message that came."""
        outbound = direction == message_pb2.DIRECTION_OUTBOUND
        row = {"id": message, "network_id": network_id, "direction": direction, "content": content}
        self.rows.append({**_NOTHING, **row, "chat": chat, "origin": int(outbound), **columns})

    def store(self, rows: Collection[OutboundMessage | Row]) -> None:
        """What the journal stores of messages that came, and of changed contents, as `journal_write` does."""
        for row in rows:
            if isinstance(row, InboundMessage):
                outbound = row.direction == message_pb2.DIRECTION_OUTBOUND
                self.add(
                    row.id,
                    row.network_id,
                    row.direction,
                    row.content,
                    row.chat,
                    origin=_OTHER_DEVICE if outbound else 0,
                    status=row.status,
                    traceparent=row.traceparent,
                    network_time=_time(row.network_time),
                )
            elif isinstance(row, ContentUpdate | InPlace):
                self._change(row)

    def _change(self, update: ContentUpdate | InPlace) -> None:
        row = next((row for row in self.rows if row["id"] == update.message and row["content"]), None)
        if row is None:
            return
        if isinstance(update, ContentUpdate):
            row["content"] = update.content
            row["edit_time"] = _time(update.edit_time) or row["edit_time"]
        elif row["network_time"] is None:
            outbound = update.direction == message_pb2.DIRECTION_OUTBOUND
            for column in ("direction", "status", "chat", "content"):
                row[column] = getattr(update, column)
            row["origin"] = _OTHER_DEVICE if outbound else 0
            row["network_time"], row["edit_time"] = _time(update.network_time), _time(update.edit_time)

    async def message(self, _account: UUID, message: UUID) -> dict[str, Any] | None:
        self._check()
        return next((row for row in self.rows if row["id"] == message), None)

    async def messages(self, _account: UUID, messages: Collection[UUID]) -> list[dict[str, Any]]:
        self._check()
        return [row for row in self.rows if row["id"] in messages]

    async def by_network_id(self, _account: UUID, network_id: str) -> UUID | None:
        self._check()
        return next((row["id"] for row in self.rows if row["network_id"] == network_id), None)

    async def identities(self, _account: UUID, addresses: Collection[str]) -> list[dict[str, str]]:
        self._check()
        names = {"phone:": "phone", "user:": "user_id", "hidden:": "hidden_id", "username:": "username"}
        return [
            names_stored(one)
            for one in reversed(self.people)
            if any(kind + getattr(one, name) in addresses for kind, name in names.items())
        ]

    def _check(self) -> None:
        if self.unavailable:
            raise ConnectionRefusedError("no database")


def _time(micros: int | None) -> datetime | None:
    return None if micros is None else datetime.fromtimestamp(micros / 1e6, UTC)


def names_stored(person: PersonIdentity) -> dict[str, str]:
    """The row of a person, as `MessageStore.identities` reads it."""
    fields = ("phone", "user_id", "hidden_id", "username", "display_name")
    return {field: getattr(person, field) for field in fields}


class MemoryFetcher:
    """Stands for `MediaFetcher`."""

    def __init__(self) -> None:
        self.files: list[tuple[UUID, bytes]] = []
        """Messages whose files must be fetched, and what fetches them."""

    def add(self, _context: SessionContext, message: UUID, blob: bytes) -> None:
        self.files.append((message, blob))


class MemoryNetwork:
    """Stands for `WatchedNetwork`: it works for everybody else."""

    failing = False

    def failed(self, _connector: object, _cause: int) -> bool:
        return True

    def logged_in(self, _connector: object) -> None:
        pass

    hold = let_go = leave = logged_in


class MemoryTaker:
    """Implements `NoticeTaker` for what needs a database: nothing comes of it."""

    def turn(self, _session: SessionContext, _notice: Any) -> AbstractAsyncContextManager[object]:
        return nullcontext()

    async def take(self, _session: SessionContext, _notice: Any) -> Sequence[Row]:
        return ()


class MemoryHost:
    """Implements `Host`, `ConnectQueue` and `SessionMaker`. `permits` is what ownership would say."""

    def __init__(self, driver: MemoryDriver, settings: SessionSettings | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.journal: Any = MemoryJournal()
        self.journal.on_commit = _committed
        self.node_id = "node-1"
        self.settings = settings or SessionSettings()
        self.proxies = Proxies(allow_private=True)
        self.room = NodeRoom(self.settings.node_outbox_bytes)
        self.permits = True
        self.admitted: list[Dialer] = []
        """Who waits for a turn to dial."""
        self.asked: list[Dialer] = []
        """Those of them for whom somebody asked."""
        self.network: Any = MemoryNetwork()
        self.preparation = MemoryPreparation()
        self.receipts = MemoryReceipts()
        self.messages = MemoryMessages()
        self.journal.on_rows = self.messages.store
        self.fetcher = MemoryFetcher()
        self.records = MemoryRecords(self.journal)
        self.calls = Calls(cast("Any", self.records))
        self.notices = Notices(notice_takers(self.calls, *[MemoryTaker() for _ in range(4)]))
        self._driver = driver
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def may_act(self, _ref: AccountRef) -> bool:
        return self.permits

    def seal(self, _tenant: UUID, plain: bytes, _context: bytes) -> bytes:
        return SEALED + plain

    async def read_rows(
        self, ref: AccountRef, keys: Collection[str], prefixes: Collection[str]
    ) -> dict[str, bytes]:
        if self.messages.unavailable:
            raise StateUnavailable("no database")
        return {
            key: value.removeprefix(SEALED)
            for key, value in self.journal.driver_rows(ref).items()
            if key in keys or key.startswith(tuple(prefixes))
        }

    def voted(self, session: SessionContext, poll: str, answers: Sequence[str], micros: int) -> None:
        """Nobody counts."""

    def connected(self, _session: SessionContext) -> None:
        """Nothing is asked by itself."""

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def admit(self, dialer: Dialer, *, first: bool = False) -> None:
        self.admitted.append(dialer)
        if first:
            self.asked.append(dialer)

    def driver(self, _name: str) -> MemoryDriver:
        return self._driver

    def make(
        self,
        account: AccountRow,
        epoch: int,
        row: SessionRow,
        state: DriverState | None,
        settings: AccountSettings | None = None,
    ) -> Session:
        preparation, receipts = cast("Any", self.preparation), cast("Any", self.receipts)
        context = SessionContext(
            self,
            AccountRef(account.uuid, account.tenant, account.shard, epoch),
            self._driver,
            state,
            EventMaker(
                encode(Prefix.TENANT, account.tenant), encode(Prefix.ACCOUNT, account.uuid), account.labels
            ),
            Counters(row),
            settings or settings_of(row.settings, ""),
        )
        room = AccountRoom(self.room, account.tenant, self.settings.outbox_bytes)
        sender = Sender(context, account.limits, preparation, receipts, receipts, room)
        lookup = ReferenceLookup(cast("Any", self.messages))
        changes = ContentChanges(lookup)
        votes = Votes(lookup, changes, cast("Any", self.records))
        receiver = Receiver(lookup, changes, votes, cast("Any", self.fetcher))
        return Session(context, account, row, sender, receiver, self.notices, self, self.network)


class OneAccount:
    """The session of one account, between a network and a journal in memory."""

    def __init__(self, account: AccountRow | None = None, driver: MemoryDriver | None = None) -> None:
        self.account = account or account_row(new_uuid())
        self.driver = driver or MemoryDriver()
        self.host = MemoryHost(self.driver)
        self.journal: MemoryJournal = self.host.journal
        self.receipts = self.host.receipts
        self.messages = self.host.messages
        self.fetcher = self.host.fetcher
        self.session = self.host.make(self.account, 3, NO_SESSION, None)

    @property
    def shown(self) -> session_pb2.Session:
        """The session as the API shows it."""
        return view(self.session)

    def limit(
        self, per_minute: int = 1000, per_hour: int = 10_000, per_day: int = 100_000, outbox: int = 10_000
    ) -> None:
        """The account's limits, from the next `load` or `connected` on."""
        self.account = replace(self.account, limits=SendLimits(per_minute, per_hour, per_day, outbox))

    # --- the connection

    def load(self, state: int, *, positions: int = 1000, **row: Any) -> MemoryState:
        """A session as another node left it, paired; so many messages can be sent with what is stored."""
        driver_state = self.driver.pair_at_once(PHONE, "Shop")
        if positions:
            reservation = driver_state.reserve(positions)
            driver_state.confirm(reservation)
            self.journal.rows.append(Credential(SEALED + reservation.state))
        self._begin(SessionRow(state=cast("Any", state), phone=PHONE, **row), driver_state)
        return driver_state

    def take_over(self, *messages: Outgoing) -> MemoryState:
        """Another node runs the account from now on, with these messages in its outbox and the driver's state
        as it was stored last.
        """
        self.session.close()
        state = self.driver.load(self.journal.state.removeprefix(SEALED))
        self._begin(SessionRow(state=session_pb2.SESSION_STATE_CONNECTED, phone=PHONE), state)
        self.session.sender.restore(
            [Outgoing(out.uuid, out.network_id, out.chat, out.request, out.traceparent) for out in messages]
        )
        return state

    async def dial(self) -> None:
        """Everybody whose turn it is dials, as far as that goes without waiting."""
        admitted, self.host.admitted = self.host.admitted, []
        for dialer in admitted:
            self.host.spawn("dial", dialer.dial())
        await turn()

    async def connected(self, *, positions: int = 1000) -> MemoryState:
        """Paired and connected."""
        state = self.load(session_pb2.SESSION_STATE_CONNECTED, positions=positions)
        await self.dial()
        assert self.shown.state == session_pb2.SESSION_STATE_CONNECTED
        return state

    def tick(self) -> None:
        """The session's turn in the node's keepalive, which takes a silent network for lost after 25 s."""
        self.session.keepalive(self.host.loop.time(), 25.0)

    # --- messages out

    def accept(self, text: str = "hello", to: str = SOMEBODY, **fields: Any) -> Outgoing:
        """A message is accepted, and waits for its commit. A text with `.png` is a picture of that name."""
        request = message_pb2.SendMessageRequest(recipient=f"phone:{to}", content=content_of(text), **fields)
        payload = request.SerializeToString()
        self.session.sender.acceptance.check_room(len(payload))
        uuid = new_uuid()
        out = Outgoing(uuid, self.driver.network_id(uuid), request.recipient, request, "")
        out.size = len(payload)
        self.session.sender.acceptance.accept(
            out, Method.SEND_MESSAGE, text, payload_digest(payload), payload, time.time()
        )
        return out

    async def send(self, text: str = "hello", to: str = SOMEBODY, **fields: Any) -> Outgoing:
        """A message is accepted and stored."""
        out = self.accept(text, to, **fields)
        await self.journal.commit()
        return out

    @property
    def preparing(self) -> list[Outgoing]:
        """The messages that wait for what they need."""
        return list(self.host.preparation.waiting)

    async def prepared(self, out: Outgoing, *blobs: str, error: Exception | None = None) -> None:
        """A message has what it needs, with its files under these references; or cannot have it."""
        waiter = self.host.preparation.waiting.pop(out)
        if error is not None:
            waiter.set_exception(error)
        else:
            waiter.set_result(Prepared(out.request.SerializeToString(), blobs))
        await turn()

    async def settle(self) -> None:
        """What waits for nothing more has happened."""
        await turn()

    @property
    def on_the_network(self) -> list[str]:
        """The texts that were handed to the network, in order, over every connection."""
        return [
            text_of(message_pb2.SendMessageRequest.FromString(message.payload).content)
            for link in self.driver.links
            for message in link.sent
        ]

    def statuses(self, out: Outgoing) -> list[int]:
        """The message's statuses that were stored, in order, without QUEUED."""
        return [change.status for change in self.changes(out)]

    def changes(self, out: Outgoing) -> list[StatusChange]:
        """The same, with their reasons."""
        return [row for row in self.stored(StatusChange) if row.message == out.uuid]

    def stored(self, kind: type[AnyRow]) -> list[AnyRow]:
        """The stored rows of one kind."""
        return [row for row in self.journal.rows if isinstance(row, kind)]

    def _begin(self, row: SessionRow, state: DriverState | None) -> None:
        self.host.admitted.clear()
        self.session = self.host.make(self.account, 3, row, state)
        self.session.begin()


def of_another_tenant() -> OneAccount:
    """An account whose tenant is not that of the others."""
    account = OneAccount()
    context = account.session.context
    context.ref = replace(context.ref, tenant=new_uuid())
    return account


def account_row(uuid: UUID) -> AccountRow:
    """An account that is to be online."""
    return AccountRow(
        uuid=uuid,
        tenant=UUID("018f0000-0000-7000-8000-000000000002"),
        shard=shard_of(encode(Prefix.ACCOUNT, uuid)),
        driver="memory",
        phone=PHONE,
        labels={},
        limits=SendLimits(1000, 10_000, 100_000, 10_000),
        online=True,
        deleted=False,
        version=1,
    )


def content_of(text: str) -> content_pb2.Content:
    """A text, which asks for a preview if it has a link, or a picture with a caption that ends in
    `.png`.
    """
    if "https://" in text:
        mode = content_pb2.LINK_PREVIEW_MODE_AUTO
        return content_pb2.Content(text=content_pb2.TextContent(body=text, preview_mode=mode))
    if text.endswith(".png"):
        return content_pb2.Content(image=content_pb2.ImageContent(caption=text))
    return content_pb2.Content(text=content_pb2.TextContent(body=text))


def text_of(content: content_pb2.Content) -> str:
    return content.text.body or content.image.caption


def _committed(stored: list[tuple[AccountRef, OutboundMessage]]) -> None:
    for _, row in stored:
        assert isinstance(row, AcceptedRow)
        row.sender.committed(row.out)
