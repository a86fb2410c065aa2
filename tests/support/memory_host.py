"""The node's side of a session, in memory: a journal that commits when the test says so, a clock that can be
moved on, and one account between them and a network in memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.requests import Method, payload_digest
from mesh_core.errors import Unavailable
from mesh_core.ids import new_uuid
from mesh_session_node.drivers.interface.content import Incoming, address_of
from mesh_session_node.drivers.interface.driver import DriverState
from mesh_session_node.drivers.interface.outcomes import Receipt
from mesh_session_node.drivers.memory.driver import MemoryDriver
from mesh_session_node.drivers.memory.state import MemoryState
from mesh_session_node.journal import (
    COMMITTED,
    AccountRef,
    Credential,
    OutboundMessage,
    Outcome,
    Row,
    StatusChange,
)
from mesh_session_node.session.account import NO_SESSION, AccountRow, SessionRow
from mesh_session_node.session.limits import SendLimits
from mesh_session_node.session.outgoing import Outgoing
from mesh_session_node.session.session import Session
from mesh_session_node.session.views import view
from mesh_session_node.settings import SessionSettings
from sessionmesh.v1 import common_pb2, content_pb2, message_pb2, session_pb2

PHONE = "+4915100000001"
SOMEBODY = "+4915112345678"
SEALED = b"sealed:"


class Clock:
    """The process's clocks, which `skip` moves on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._skipped = 0.0
        monotonic, wall, wall_ns = time.monotonic, time.time, time.time_ns
        patch.setattr(time, "monotonic", lambda: monotonic() + self._skipped)
        patch.setattr(time, "time", lambda: wall() + self._skipped)
        patch.setattr(time, "time_ns", lambda: wall_ns() + int(self._skipped * 1e9))

    async def skip(self, seconds: float) -> None:
        """So much later; what was due by then has run."""
        self._skipped += seconds
        await turn()


async def turn() -> None:
    """A few turns of the loop: callbacks and tasks that wait for nothing have run."""
    for _ in range(10):
        await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class _Unit:
    owner: AccountRef
    rows: tuple[OutboundMessage | Row, ...]
    done: asyncio.Future[Outcome]


class MemoryJournal:
    """Keeps rows in the order in which they would be stored. What somebody waits for is stored by `commit`,
    the rest at once.
    """

    def __init__(self) -> None:
        self.rows: list[OutboundMessage | Row] = []
        """What is stored."""
        self.full = False
        """While set, nothing is taken that somebody would wait for."""
        self.on_commit: Callable[[list[tuple[AccountRef, OutboundMessage]]], None] = _nothing
        self._waiting: list[_Unit] = []

    @property
    def waiting(self) -> list[OutboundMessage | Row]:
        """What the next `commit` stores."""
        return [row for unit in self._waiting for row in unit.rows]

    @property
    def state(self) -> bytes:
        """The driver's state that was stored last."""
        for row in reversed(self.rows):
            if isinstance(row, Credential):
                return row.blob
            if isinstance(row, OutboundMessage) and row.state is not None:
                return row.state
        raise LookupError("no state of the driver is stored")

    def accept(self, owner: AccountRef, message: OutboundMessage) -> asyncio.Future[Outcome]:
        return self._take(owner, message)

    def write(self, owner: AccountRef, *rows: Row) -> asyncio.Future[Outcome]:
        return self._take(owner, *rows)

    def post(self, _owner: AccountRef, *rows: Row) -> None:
        self.rows += rows

    async def flush(self) -> None:
        await self.commit()

    async def commit(self, outcome: Outcome = COMMITTED) -> None:
        """Store what waits; or tell its callers of another outcome."""
        units, self._waiting = self._waiting, []
        stored: list[tuple[AccountRef, OutboundMessage]] = []
        for unit in units:
            unit.done.set_result(outcome)
            if outcome is COMMITTED:
                self.rows += unit.rows
                stored += [(unit.owner, row) for row in unit.rows if isinstance(row, OutboundMessage)]
        if stored:
            self.on_commit(stored)
        await turn()

    async def lose(self) -> None:
        """Nobody learns whether what waits was stored."""
        units, self._waiting = self._waiting, []
        for unit in units:
            unit.done.set_exception(Unavailable("the journal has stopped", "BACKEND_UNAVAILABLE"))
            unit.done.exception()
        await turn()

    def _take(self, owner: AccountRef, *rows: OutboundMessage | Row) -> asyncio.Future[Outcome]:
        if self.full:
            raise Unavailable("too many writes wait for the database", "BACKEND_UNAVAILABLE", retry_after=1.0)
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Unit(owner, rows, done))
        return done


@dataclass(frozen=True, slots=True)
class Prepared:
    """A message in the driver's form."""

    payload: bytes
    blobs: Sequence[str] = ()


class MemoryHost:
    """Implements `Host`. `permits` is what ownership would say; what sessions asked for is in the other
    attributes.
    """

    def __init__(self, driver: MemoryDriver, settings: SessionSettings | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self.journal: Any = MemoryJournal()
        self.journal.on_commit = self._on_commit
        self.node_id = "node-1"
        self.settings = settings or SessionSettings()
        self.permits = True
        self.admitted: list[Session] = []
        self.late: list[tuple[str, Receipt, str]] = []
        """Receipts of messages that the session did not remember: network id, receipt, member."""
        self.receipts_stored: list[int] = []
        self.references: list[Incoming] = []
        self.fetches: list[bytes] = []
        self.preparing: list[Outgoing] = []
        """Messages that wait for `prepared`."""
        self._preparations: dict[UUID, asyncio.Future[Prepared]] = {}
        self._driver = driver
        self._tasks: set[asyncio.Task[None]] = set()

    def prepared(self, out: Outgoing, outcome: Prepared | Exception) -> None:
        """End a preparation."""
        self.preparing.remove(out)
        waiter = self._preparations.pop(out.uuid)
        if isinstance(outcome, Exception):
            waiter.set_exception(outcome)
        else:
            waiter.set_result(outcome)

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- Host

    def may_act(self, _session: Session) -> bool:
        return self.permits

    def driver(self, _name: str) -> MemoryDriver:
        return self._driver

    def seal(self, _tenant: UUID, plain: bytes, _context: bytes) -> bytes:
        return SEALED + plain

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def admit(self, session: Session) -> None:
        self.admitted.append(session)

    async def prepare(self, _session: Session, out: Outgoing) -> Prepared:
        self.preparing.append(out)
        self._preparations[out.uuid] = waiter = asyncio.Future[Prepared]()
        return await waiter

    async def receive_reference(self, _session: Session, came: Incoming) -> None:
        self.references.append(came)

    def late_receipt(
        self, _session: Session, network_id: str, receipt: Receipt, _time: int, member: str
    ) -> None:
        self.late.append((network_id, receipt, member))

    def receipts_heard(self, _session: Session, sequence: int) -> None:
        self.receipts_stored.append(sequence)

    def fetch_media(self, _session: Session, _message: UUID, blob: bytes) -> None:
        self.fetches.append(blob)

    def _on_commit(self, stored: list[tuple[AccountRef, OutboundMessage]]) -> None:
        for _, row in stored:
            out = cast("Any", row).out
            out.session.sender.committed(out)


class OneAccount:
    """The session of one account, between a network and a journal in memory."""

    def __init__(self, settings: SessionSettings | None = None) -> None:
        self.driver = MemoryDriver()
        self.host = MemoryHost(self.driver, settings)
        self.journal: MemoryJournal = self.host.journal
        self.account = ACCOUNT
        self.session = self._begin(NO_SESSION, None)

    @property
    def shown(self) -> session_pb2.Session:
        """The session as the API shows it."""
        return view(self.session)

    def limit(
        self, per_minute: int = 1000, per_hour: int = 10_000, per_day: int = 100_000, outbox: int = 10_000
    ) -> None:
        """The account's limits, from the next `load` or `connected` on."""
        self.account = replace(self.account, limits=SendLimits(per_minute, per_hour, per_day, outbox))

    def _begin(self, row: SessionRow, state: DriverState | None) -> Session:
        self.host.admitted.clear()
        self.session = Session(cast("Any", self.host), self.account, 3, row, state)
        self.session.begin()
        return self.session

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
            [Outgoing(self.session, out.uuid, out.chat, out.request, out.traceparent) for out in messages]
        )
        return state

    async def dial(self) -> None:
        """Everybody whose turn it is dials, as far as that goes without waiting."""
        admitted, self.host.admitted = self.host.admitted, []
        for session in admitted:
            self.host.spawn("dial", session.dial())
        await turn()

    async def connected(self, *, positions: int = 1000) -> MemoryState:
        """Paired and connected."""
        state = self.load(session_pb2.SESSION_STATE_CONNECTED, positions=positions)
        await self.dial()
        assert self.session.link is not None
        return state

    # --- messages out

    def accept(self, text: str = "hello", to: str = SOMEBODY, **fields: Any) -> Outgoing:
        """A message is accepted, and waits for its commit. A text with `.png` is a picture of that name."""
        request = message_pb2.SendMessageRequest(
            recipient=common_pb2.Recipient(phone=to), content=content_of(text), **fields
        )
        self.session.sender.check_room()
        out = Outgoing(self.session, new_uuid(), address_of(request.recipient), request, "")
        payload = request.SerializeToString()
        self.session.sender.accept(
            out, Method.SEND_MESSAGE, text, payload_digest(payload), payload, time.time()
        )
        return out

    async def send(self, text: str = "hello", to: str = SOMEBODY, **fields: Any) -> Outgoing:
        """A message is accepted and stored."""
        out = self.accept(text, to, **fields)
        await self.journal.commit()
        return out

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
        rows = self.journal.rows
        return [row for row in rows if isinstance(row, StatusChange) and row.message == out.uuid]

    def stored(self, kind: type[Any]) -> list[Any]:
        """The stored rows of one kind."""
        return [row for row in self.journal.rows if isinstance(row, kind)]


ACCOUNT = AccountRow(
    uuid=UUID("018f0000-0000-7000-8000-000000000001"),
    tenant=UUID("018f0000-0000-7000-8000-000000000002"),
    shard=7,
    driver="memory",
    phone=PHONE,
    labels={},
    limits=SendLimits(1000, 10_000, 100_000, 10_000),
    online=True,
    deleted=False,
    version=1,
)
"""Is to be online."""


def content_of(text: str) -> content_pb2.Content:
    """A text, or a picture with a caption that ends in `.png`."""
    if text.endswith(".png"):
        return content_pb2.Content(image=content_pb2.ImageContent(caption=text))
    return content_pb2.Content(text=content_pb2.TextContent(body=text))


def text_of(content: content_pb2.Content) -> str:
    return content.text.body or content.image.caption


def _nothing(_stored: list[tuple[AccountRef, OutboundMessage]]) -> None:
    pass
