"""A node in memory for the unit tests of what runs on it: a journal that commits when told, and sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast
from unittest.mock import AsyncMock, MagicMock

from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import Unavailable
from mesh_core.ids import Prefix, encode, new_uuid, shard_of
from mesh_session_node.account.session import Session
from mesh_session_node.context.context import Counters, SessionContext
from mesh_session_node.context.events import EventMaker
from mesh_session_node.context.settings import SessionSettings
from mesh_session_node.drivers.interface.driver import Driver, DriverState
from mesh_session_node.drivers.memory.driver import MemoryDriver
from mesh_session_node.journal import COMMITTED, AccountRef, Outcome, Row
from mesh_session_node.outbound.outgoing import AcceptedRow, Outgoing
from mesh_session_node.outbound.sender import Sender
from mesh_session_node.store.accounts import NO_SESSION, AccountRow, SendLimits, SessionRow

LIMITS = SendLimits(per_minute=60, per_hour=1000, per_day=10_000, outbox=100)


class MemoryJournal:
    """Implements what sessions call of `Journal`. Nothing has an outcome before `settle`; with `full` set it
    takes nothing that somebody waits for.
    """

    def __init__(self) -> None:
        self.accepted: list[tuple[AcceptedRow, asyncio.Future[Outcome]]] = []
        self.written: list[tuple[tuple[Row, ...], asyncio.Future[Outcome]]] = []
        self.posted: list[Row] = []
        self.full = False

    def accept(self, _owner: AccountRef, message: AcceptedRow) -> asyncio.Future[Outcome]:
        return self._waiting(self.accepted, message)

    def write(self, _owner: AccountRef, *rows: Row) -> asyncio.Future[Outcome]:
        return self._waiting(self.written, rows)

    def post(self, _owner: AccountRef, *rows: Row) -> None:
        self.posted.extend(rows)

    async def flush(self) -> None:
        await self.settle()

    async def settle(self, outcome: Outcome = COMMITTED) -> None:
        """Give everything that waits this outcome, and let those who waited go on."""
        accepted, self.accepted = self.accepted, []
        written, self.written = self.written, []
        for _, done in (*accepted, *written):
            done.set_result(outcome)
        if outcome is COMMITTED:
            for row, _ in accepted:
                row.sender.committed(row.out)
        await asyncio.sleep(0)

    def rows(self, kind: type[Any]) -> list[Any]:
        """The rows of one kind that were posted."""
        return [row for row in self.posted if isinstance(row, kind)]

    def _waiting(self, into: list[Any], what: object) -> asyncio.Future[Outcome]:
        if self.full:
            raise Unavailable("too many writes wait", "BACKEND_UNAVAILABLE")
        done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        into.append((what, done))
        return done


class MemoryNode:
    """Implements `Host`, and makes sessions on it. `permits` is what ownership says of every account.

    `dials` are those who wait for their turn to connect. Make it on a running event loop.
    """

    def __init__(self, driver: Any = None, **settings: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.node_id = "node-1"
        self.settings = SessionSettings(**settings)
        self.memory_journal = MemoryJournal()
        self.network = MemoryDriver() if driver is None else driver
        self.permits = True
        self.dials: list[Any] = []
        self.preparation = AsyncMock()
        self.late_receipts = MagicMock()
        self.receipt_acks = MagicMock()
        self.inbound = MagicMock()
        self.tasks: list[asyncio.Task[None]] = []

    @property
    def journal(self) -> Any:
        return self.memory_journal

    def may_act(self, _ref: AccountRef) -> bool:
        return self.permits

    def seal(self, _tenant: UUID, plain: bytes, _context: bytes) -> bytes:
        return plain

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(work, name=name))

    def admit(self, dialer: Any) -> None:
        self.dials.append(dialer)

    def driver(self, _name: str) -> Driver:
        return cast("Driver", self.network)

    def make(
        self,
        account: AccountRow | None = None,
        epoch: int = 3,
        row: SessionRow = NO_SESSION,
        state: DriverState | None = None,
    ) -> Session:
        """A session; `state` is its pairing."""
        account = account or account_row()
        context = self.context(account, epoch, row, state)
        sender = self.sender(context, account.limits)
        return Session(context, account, row, sender, self.inbound, self)

    def context(
        self,
        account: AccountRow | None = None,
        epoch: int = 3,
        row: SessionRow = NO_SESSION,
        state: DriverState | None = None,
    ) -> SessionContext:
        account = account or account_row()
        ref = AccountRef(account.uuid, account.tenant, account.shard, epoch)
        names = encode(Prefix.TENANT, account.tenant), encode(Prefix.ACCOUNT, account.uuid)
        return SessionContext(
            self, ref, self.driver(account.driver), state, EventMaker(*names, account.labels), Counters(row)
        )

    def sender(self, context: SessionContext, limits: SendLimits = LIMITS) -> Sender:
        return Sender(context, limits, self.preparation, self.late_receipts, self.receipt_acks)


def account_row(uuid: UUID | None = None, **fields: Any) -> AccountRow:
    """An account that is to be online."""
    uuid = uuid or new_uuid()
    values: dict[str, Any] = {
        "tenant": TENANT,
        "shard": shard_of(encode(Prefix.ACCOUNT, uuid)),
        "driver": "memory",
        "phone": "+4915100000001",
        "labels": {},
        "limits": LIMITS,
        "online": True,
        "deleted": False,
        "version": 1,
    }
    return AccountRow(uuid=uuid, **(values | fields))


def outgoing(request: Any, chat: str = "phone:+4917000000") -> Outgoing:
    """A message that is about to be accepted."""
    return Outgoing(new_uuid(), chat, request, "")


TENANT = new_uuid()
