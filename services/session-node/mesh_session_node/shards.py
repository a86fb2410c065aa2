"""The accounts of the shards that run here: loaded when a shard comes, found when a call asks, closed when it
goes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from asyncpg.pgproto.pgproto import UUID
from grpc.aio import ServicerContext

from mesh_core.errors import FailedPrecondition, NotFound, NotOwner
from mesh_core.etcd import EtcdUnavailable
from mesh_core.ids import Prefix, decode, encode, shard_of
from mesh_core.rpc.auth import current_identity
from mesh_core.sealing import CannotUnseal, Sealer
from mesh_session_node import validation
from mesh_session_node.journal import Journal
from mesh_session_node.load_meter import LoadMeter
from mesh_session_node.media_transfer import InboundMedia
from mesh_session_node.misplaced import settled_owner
from mesh_session_node.queries import UNAVAILABLE, Loaded, Queries, WaitingFetch, WaitingMessage
from mesh_session_node.session.account import SessionRow
from mesh_session_node.session.outgoing import Outgoing
from mesh_session_node.session.session import BY_ACCOUNT, Session
from sessionmesh.v1 import message_pb2, session_pb2

if TYPE_CHECKING:
    from mesh_core.ownership.keys import OwnerKey
    from mesh_core.ownership.view import OwnerLookup
    from mesh_session_node.drivers.interface.driver import Driver, DriverState
    from mesh_session_node.session.host import Host

logger = structlog.get_logger(__name__)


class Owning(Protocol):
    """What is asked of ownership."""

    def epoch(self, shard: int) -> int | None: ...
    def admits(self, shard: int) -> bool: ...
    def owner(self, shard: int) -> OwnerKey | None: ...
    @property
    def owners(self) -> OwnerLookup: ...
    async def ask_owner(self, shard: int) -> OwnerKey | None: ...
    def running(self) -> Mapping[int, int]: ...


class Shards:
    """Implements `ShardHandler`."""

    def __init__(
        self,
        host: Host,
        queries: Queries,
        sealer: Sealer,
        journal: Journal,
        media: InboundMedia,
        on_gone: Callable[[Session], None],
    ) -> None:
        self.sessions: dict[str, Session] = {}
        """Those that run here, by account id."""
        self.ownership: Owning | None = None
        """Set once it is made; it needs the handler first."""
        self._host = host
        self._queries = queries
        self._sealer = sealer
        self._journal = journal
        self._media = media
        self._on_gone = on_gone
        self._meter = LoadMeter(time.monotonic)
        self._by_shard: dict[int, set[Session]] = {}
        self._epochs: dict[int, int] = {}
        self._loading: dict[int, asyncio.Future[None]] = {}
        self._verified: dict[int, float] = {}

    # --- ShardHandler

    async def acquired(self, shards: Mapping[int, int]) -> None:
        """Load the accounts of these shards and let their sessions begin."""
        loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for shard, epoch in shards.items():
            self._epochs[shard] = epoch
            self._loading[shard] = loaded
        try:
            await self._load_persistently(shards)
        finally:
            for shard in shards:
                if self._loading.get(shard) is loaded:
                    del self._loading[shard]
            loaded.set_result(None)

    async def release(self, shards: Collection[int]) -> None:
        """Close the sessions; the fence goes back with the last of what they wrote."""
        epochs = {shard: self._epochs[shard] for shard in shards if shard in self._epochs}
        self._close(shards)
        given = [*epochs.items()]
        for at in range(0, len(given), _SHARDS_AT_ONCE):  # the server ends a transaction of over a second
            await self._journal.flush(give_back=dict(given[at : at + _SHARDS_AT_ONCE]))

    def lost(self, shards: Collection[int]) -> None:
        """Close the sockets now."""
        self._close(shards)

    def accounts(self, shard: int) -> int:
        """How many sessions run in the shard."""
        return len(self._by_shard.get(shard, ()))

    def loads(self) -> Mapping[int, tuple[int, int]]:
        """What the planner is to know of the shards whose accounts are loaded."""
        return self._meter.read(self._epochs.keys() - self._loading.keys(), self.sessions.values())

    # --- calls

    async def called(self, metadata: Iterable[tuple[str, str | bytes]] | None, account_id: str) -> Session:
        """The session that a call with this metadata is about, where its caller may know of it.

        Raises as `find` does, and `InvalidArgument` ACCOUNT_MISMATCH.
        """
        epoch = validation.check_routing(metadata, account_id)
        session = await self.visible(account_id)
        if epoch > session.ref.epoch:
            await self._verify(session.ref.shard, session.ref.epoch)
        return session

    async def called_for_stream(self, context: ServicerContext[Any, Any], account_id: str) -> Session:
        """`called`, for a stream, which nobody sends on to the owner: while its account changes hands it
        waits as a unary call does, and is then served here, or refused with the new owner's name.
        """
        while True:
            try:
                return await self.called(context.invocation_metadata(), account_id)
            except NotOwner as refused:
                if self.ownership is None:
                    raise
                node_id = self._host.node_id
                owner = await settled_owner(self.ownership, node_id, refused, context.time_remaining())
                if owner.node_id != node_id:
                    raise NotOwner(owner.node_id, owner.epoch, shard=refused.shard) from None

    async def visible(self, account_id: str) -> Session:
        """`find`, for the current caller: another tenant's account does not exist."""
        session = self.sessions.get(account_id)
        if session is None or session.account.deleted:
            session = await self.find(account_id)
        else:
            self.check_owner(session.ref.shard)
        current_identity().check_sees(session.ref.tenant, "account", account_id)
        return session

    async def find(self, account_id: str) -> Session:
        """The session that a call is about. Raises `InvalidField`, `NotOwner`, `NotFound`,
        `FailedPrecondition`.
        """
        uuid = decode(Prefix.ACCOUNT, account_id, "account_id")
        shard = shard_of(account_id)
        self.check_owner(shard)
        loading = self._loading.get(shard)
        if loading is not None:
            await asyncio.shield(loading)
            self.check_owner(shard)
        session = self.sessions.get(account_id)
        if session is None:
            session = await self._load_one(account_id, uuid, shard)
        if session.account.deleted:
            raise FailedPrecondition("the account is deleted", "RESOURCE_DELETED")
        return session

    def check_owner(self, shard: int) -> None:
        """Raise `NotOwner` for a shard that may not begin new work here."""
        ownership = self.ownership
        if ownership is None or not ownership.admits(shard):
            raise self.not_owner(shard)

    def not_owner(self, shard: int) -> NotOwner:
        """The error that tells a caller where to go."""
        owner = self.ownership.owner(shard) if self.ownership is not None else None
        if owner is None or owner.node == self._host.node_id:
            return NotOwner(shard=shard)
        return NotOwner(owner.node, owner.epoch, shard=shard)

    async def _verify(self, shard: int, epoch: int) -> None:
        """A caller was told of a newer epoch than ours: see whether there is one, once a second at most."""
        now = time.monotonic()
        if self.ownership is None or now < self._verified.get(shard, 0.0):
            return
        self._verified[shard] = now + _VERIFIED_FOR
        try:
            owner = await self.ownership.ask_owner(shard)
        except EtcdUnavailable:
            return  # what we hold does not depend on etcd
        if owner is not None and owner.epoch > epoch and owner.node != self._host.node_id:
            raise NotOwner(owner.node, owner.epoch, shard=shard)

    async def refresh(self, accounts: Collection[UUID]) -> None:
        """These accounts' rows may have changed."""
        known, epochs = [*filter(None, map(self._running, accounts))], self._epochs.copy()
        rows = await self._queries.accounts(accounts)
        self._refresh(known, rows)
        await self._load_missing(rows, epochs)

    async def reconcile(self) -> None:
        """Bring every session in line with its account's row."""
        epochs = {shard: epoch for shard, epoch in self._epochs.items() if shard not in self._loading}
        known = [session for shard in epochs for session in self._by_shard.get(shard, ())]
        rows = await self._queries.shards(epochs)
        self._refresh(known, rows)
        await self._load_missing(rows, epochs)

    # --- loading

    async def _load_persistently(self, shards: Mapping[int, int]) -> None:
        """A shard that is ours must run: try until Postgres answers, or the shard has gone."""
        while True:
            mine = {shard: epoch for shard, epoch in shards.items() if self._epochs.get(shard) == epoch}
            if not mine:
                return
            try:
                rows, waiting, fetches = await asyncio.gather(
                    self._queries.shards(mine), self._queries.outbox(mine), self._queries.fetches(mine)
                )
                sessions = await self._load(rows, waiting, fetches, mine)
            except UNAVAILABLE as error:
                logger.warning("accounts wait for Postgres", shards=len(mine), error=repr(error))
                await asyncio.sleep(_AGAIN)
            else:
                if sessions:
                    logger.info(
                        "accounts loaded", shards=len(mine), accounts=len(sessions), outbox=len(waiting)
                    )
                return

    async def _load_one(self, account_id: str, uuid: UUID, shard: int) -> Session:
        epochs = self._epochs.copy()
        rows = await self._queries.accounts([uuid])
        if not rows:
            raise NotFound("account", account_id)
        self._host.driver(rows[0].account.driver)
        await self._load_missing(rows, epochs)
        self.check_owner(shard)
        session = self.sessions.get(account_id)
        if session is None:
            raise self.not_owner(shard)
        return session

    async def _load_missing(self, rows: Iterable[Loaded], epochs: Mapping[int, int]) -> None:
        """Load accounts that were made after their shard came, or could not be loaded with it."""
        missing = [
            row
            for row in rows
            if row.account.shard in epochs
            and row.account.shard not in self._loading
            and self._running(row.account.uuid) is None
        ]
        waiting: list[WaitingMessage] = []
        fetches: list[WaitingFetch] = []
        if ran := [row.account for row in missing if row.session.update_time is not None]:
            shards, accounts = {account.shard for account in ran}, [account.uuid for account in ran]
            waiting, fetches = await asyncio.gather(
                self._queries.outbox(shards, accounts), self._queries.fetches(shards, accounts)
            )
        await self._load(missing, waiting, fetches, epochs)

    async def _load(
        self,
        rows: Iterable[Loaded],
        waiting: Iterable[WaitingMessage],
        fetches: Iterable[WaitingFetch],
        epochs: Mapping[int, int],
    ) -> list[Session]:
        """Make the sessions of these rows, give them what they must still send and fetch, and let them begin.

        `epochs` are those under which all was read: what a shard's former tenure has read is too old.
        """
        sessions = await self._make(rows, epochs)
        by_uuid = {session.account.uuid: session for session in sessions}
        outboxes: dict[UUID, list[Outgoing]] = {}
        for message in waiting:
            session = by_uuid.get(message.account)
            if session is not None:
                request = message_pb2.SendMessageRequest.FromString(message.content)
                out = Outgoing(session, message.uuid, message.chat, request, message.traceparent)
                out.due = message.due if message.due > time.time() else None
                out.attempts = 1  # it may have been sent
                outboxes.setdefault(message.account, []).append(out)
        for account, messages in outboxes.items():
            by_uuid[account].sender.restore(messages)
        for session in sessions:
            session.begin()
        for fetch in fetches:
            if fetch.account in by_uuid:
                self._media.add(by_uuid[fetch.account], fetch.message, fetch.blob, fetch.attempts, fetch.due)
        paired = [session for session in sessions if session.driver_state is not None]
        if paired:
            self._host.spawn("recall what was sent", self._recall(paired))
        return sessions

    async def _make(self, rows: Iterable[Loaded], epochs: Mapping[int, int]) -> list[Session]:
        """Sessions of rows, where their shards are still here and no session was made meanwhile."""
        made = []
        for row in rows:
            account = row.account
            try:
                driver = self._host.driver(account.driver)
                state = await self._open(row, driver)
            except (FailedPrecondition, CannotUnseal) as error:
                logger.warning("an account cannot run", account=str(account.uuid), problem=str(error))
                continue
            if (running := self._running(account.uuid)) is not None:
                running.refresh(account)
                continue
            epoch = self._epochs.get(account.shard)
            if epoch is None or epoch != epochs[account.shard]:
                continue
            session = Session(self._host, account, epoch, _begun(row.session), state)
            self.sessions[session.id] = session
            self._by_shard.setdefault(account.shard, set()).add(session)
            made.append(session)
        return made

    async def _open(self, row: Loaded, driver: Driver) -> DriverState | None:
        tenant, sealed = row.account.tenant, row.session.credential
        if not self._sealer.loaded(tenant):
            await self._sealer.load(tenant)
        if sealed is None:
            return None
        return driver.load(await self._sealer.open(tenant, sealed, row.account.uuid.bytes))

    async def _recall(self, sessions: list[Session]) -> None:
        """What was sent in the last day counts against the limits, whoever sent it."""
        by_uuid = {session.account.uuid: session for session in sessions}
        keys = [*by_uuid]
        for at in range(0, len(keys), _ACCOUNTS_AT_ONCE):
            for account, age, count in await self._queries.sent_lately(keys[at : at + _ACCOUNTS_AT_ONCE]):
                by_uuid[account].sender.recall(count, max(age, 0.0))

    def _running(self, account: UUID) -> Session | None:
        return self.sessions.get(encode(Prefix.ACCOUNT, account))

    def _refresh(self, known: Iterable[Session], rows: Iterable[Loaded]) -> None:
        """Tell sessions of their rows; `known` are those that ran before the rows were read, and of them the
        ones without a row are purged. One that began meanwhile has a row that the query was too early for.
        """
        found = set()
        for row in rows:
            found.add(row.account.uuid)
            if (session := self._running(row.account.uuid)) is not None:
                session.refresh(row.account)
        for session in known:
            if session.account.uuid not in found and self.sessions.get(session.id) is session:
                self._remove(session)

    def _close(self, shards: Collection[int]) -> None:
        for shard in shards:
            self._epochs.pop(shard, None)
            for session in [*self._by_shard.get(shard, ())]:
                self._remove(session)

    def _remove(self, session: Session) -> None:
        session.close()
        del self.sessions[session.id]
        remaining = self._by_shard[session.ref.shard]
        remaining.discard(session)
        if not remaining:
            del self._by_shard[session.ref.shard]
        self._on_gone(session)


def _begun(row: SessionRow) -> SessionRow:
    """An account that came with a credential has never had a session, and need not be paired."""
    if row.state == session_pb2.SESSION_STATE_NEW and row.credential is not None and row.update_time is None:
        return replace(row, state=session_pb2.SESSION_STATE_PAUSED, detail=BY_ACCOUNT)
    return row


_AGAIN = 0.5
_VERIFIED_FOR = 1.0
_SHARDS_AT_ONCE = 256
_ACCOUNTS_AT_ONCE = 500
