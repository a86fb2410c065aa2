"""What the parts of one account's session share, instead of knowing each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import FailedPrecondition, GoingAway
from mesh_core.settings import Positive, Seconds
from mesh_core.signal import Signal
from mesh_core.usage.counts import used_by
from mesh_core.validation import to_timestamp
from mesh_session_node.context.account_settings import NO_SETTINGS, AccountSettings
from mesh_session_node.context.driver_rows import DriverRows
from mesh_session_node.context.events import EventMaker
from mesh_session_node.context.people import People
from mesh_session_node.context.presence import Watches
from mesh_session_node.context.proxies import Proxies
from mesh_session_node.context.risk import Risk
from mesh_session_node.drivers.interface.content import Identity
from mesh_session_node.drivers.interface.driver import Driver, Link
from mesh_session_node.drivers.interface.state import DriverState
from mesh_session_node.journal import AccountRef, Journal, Outcome
from mesh_session_node.store.accounts import SessionRow
from sessionmesh.v1.message_pb2 import SendMessageRequest

Say = Callable[[SendMessageRequest, int, str], asyncio.Future[Outcome]]


class SessionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The section [session] of the settings; `defaults.toml` says what each key means."""

    send_per_minute: Positive = 60
    send_per_hour: Positive = 1_000
    send_per_day: Positive = 10_000
    acts_per_minute: Positive = 240
    acts_per_hour: Positive = 5_000
    history_per_minute: Positive = 60
    risk_unknown_percent: Positive = 50
    risk_least_recipients: Positive = 20
    outbox: Positive = 10_000
    outbox_bytes: Positive = 32 * 1024 * 1024
    node_outbox_bytes: Positive = 1024 * 1024 * 1024
    jitter_seconds: Seconds = 0.0
    connects_per_second: Positive = 500
    connects_at_once: Positive = 200
    keepalive_seconds: Positive = 10
    failures_per_hour: Positive = 5
    pairings_at_once: Positive = 50
    pairing_interval_seconds: Seconds = 600.0
    reconcile_seconds: Positive = 60
    media_transfers: Positive = 8
    fetch_media_up_to: Positive = 16 * 1024 * 1024
    preview_private_addresses: bool = False
    proxy_private_addresses: bool = False


class Host(Protocol):
    """The node beneath the sessions. What takes time runs there: sessions start no tasks themselves."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def journal(self) -> Journal: ...
    @property
    def node_id(self) -> str: ...
    @property
    def settings(self) -> SessionSettings: ...
    @property
    def proxies(self) -> Proxies: ...

    def may_act(self, ref: AccountRef) -> bool:
        """Whether the account may run here, under that epoch, at this very moment."""

    def seal(self, tenant: UUID, plain: bytes, context: bytes) -> bytes:
        """Encrypts with the tenant's data key, which is loaded."""

    async def read_rows(
        self, ref: AccountRef, keys: Collection[str], prefixes: Collection[str]
    ) -> Mapping[str, bytes]:
        """The stored rows of the account's driver, opened. Raises `StateUnavailable`."""

    def voted(self, session: SessionContext, poll: str, answers: Sequence[str], micros: int) -> None:
        """Counts a vote of the account that the network has taken: `poll` is the network's id of the poll."""

    def connected(self, session: SessionContext) -> None:
        """The session has logged in: what is asked of the network once is asked now."""

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Runs something that takes time for a session. A failure is logged, and is not the node's."""


class Counters:
    """What the session has done since its account was created; `stored` is what its row says of it.
    `last_inbound` is when the last message came in, in microseconds since the epoch; None: never.
    """

    __slots__ = ("connects", "failed", "last_inbound", "received", "sent", "stored")

    def __init__(self, row: SessionRow) -> None:
        self.sent = row.sent
        self.received = row.received
        self.failed = row.failed
        self.connects = row.connects
        came = row.last_inbound_time
        self.last_inbound = None if came is None else to_timestamp(came).ToMicroseconds()
        self.stored = self.values()

    def came(self, time: int) -> None:
        """A message came in, at that time in microseconds since the epoch."""
        self.received += 1
        self.last_inbound = max(time, self.last_inbound or time)

    def values(self) -> tuple[int, int, int, int]:
        """In the order sent, received, failed, connects."""
        return self.sent, self.received, self.failed, self.connects


class SessionContext:
    """One account under one tenure of its shard: who it is, and what its parts have in common just now.

    `driver_state` is None while the account is not paired, `link` while it is not connected. `closed` is for
    good: the account is no longer this node's, and nothing may be done for it.
    """

    __slots__ = (
        "_changes",
        "callers_answered",
        "closed",
        "connect_anew",
        "counters",
        "driver",
        "driver_state",
        "events",
        "groups_listed",
        "host",
        "id",
        "link",
        "opening",
        "people",
        "ref",
        "risk",
        "rows",
        "say",
        "settings",
        "used",
        "watches",
    )

    def __init__(
        self,
        host: Host,
        ref: AccountRef,
        driver: Driver,
        driver_state: DriverState | None,
        events: EventMaker,
        counters: Counters,
        settings: AccountSettings = NO_SETTINGS,
    ) -> None:
        self.host = host
        self.ref = ref
        self.id = events.account_id
        self.driver = driver
        self.driver_state = driver_state
        self.events = events
        self.counters = counters
        self.used = used_by(ref.tenant)
        self.settings = settings
        self.people = People()
        self.watches: Watches | None = None  # most accounts watch nobody
        self.risk = Risk()
        self.link: Link | None = None
        self.opening: Link | None = None
        """The connection that logs in just now, where it may bring things before it is `link`."""
        self.rows: DriverRows | None = None
        """The driver's rows, from the beginning of a login to the end of its connection."""
        self.closed = False
        self.groups_listed = False
        """Its groups are stored, as far as this process knows."""
        self.connect_anew: Callable[[str], None] = _nothing
        """Ends the connection, for this reason, and dials at once: the network offers what it has again."""
        self.callers_answered: tuple[int, frozenset[str]] = (0, frozenset())
        """Who was written to after a rejected call in an hour, counted from 1970."""
        self.say: Say = _say_nothing
        """Accepts a message that the mesh itself writes, under a method and a request id of its own."""
        self._changes: Signal | None = None  # most accounts have nobody who waits for them

    def seal(self, plain: bytes) -> bytes:
        """A driver's state as it is stored."""
        return self.host.seal(self.ref.tenant, plain, self.ref.uuid.bytes)

    @property
    def own(self) -> Identity:
        """Who the account itself is, as far as it knows; nobody while it is not paired."""
        state = self.driver_state
        return Identity() if state is None else Identity(state.phone, state.user_id, state.hidden_id)

    @property
    def bringing(self) -> Link | None:
        """The connection by which things come: `link`, or the one that is to be it."""
        return self.link if self.link is not None else self.opening

    @property
    def changes(self) -> Signal:
        """Notified when the session's state has changed, and when it is closed."""
        if self._changes is None:
            self._changes = Signal()
        return self._changes

    def notify(self) -> None:
        """Notify those that wait for `changes`."""
        if self._changes is not None:
            self._changes.notify()

    async def until_connected(self) -> None:
        """Return when the session is connected, or closed for good."""
        while not self.closed and self.link is None:
            await self.changes.wait()


def _say_nothing(_message: SendMessageRequest, _method: int, _request_id: str) -> asyncio.Future[Outcome]:
    raise FailedPrecondition("the account is not paired", "NOT_PAIRED")


def _nothing(_detail: str) -> None:
    """No session has the account yet."""


def account_moved(resume_token: str = "") -> GoingAway:
    """The end of a stream whose account leaves this node: begin it again, with the token if there is one."""
    return GoingAway(resume_token, message="the account goes to another node", retry_after=_RETRY_DELAY)


_RETRY_DELAY = 0.2
