"""Loads accounts: makes their sessions, when their shard comes or later, and tells these of changed rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import UNAVAILABLE
from mesh_core.database.identity import stored_before_restore
from mesh_core.errors import FailedPrecondition, NotFound
from mesh_core.ids import follow, new_uuid
from mesh_core.sealing import CannotUnseal, Sealer
from mesh_session_node.account.session import BY_ACCOUNT, Session
from mesh_session_node.context import metrics
from mesh_session_node.context.account_settings import (
    NO_SETTINGS,
    AccountSettings,
    proxy_binding,
    settings_of,
)
from mesh_session_node.drivers.interface.driver import Driver
from mesh_session_node.drivers.interface.state import DriverState
from mesh_session_node.inbound.media import MediaFetcher
from mesh_session_node.node.registry import Registry
from mesh_session_node.outbound.outgoing import Outgoing
from mesh_session_node.store.accounts import (
    AccountRow,
    AccountStore,
    SessionRow,
    StoredAccount,
    WaitingFetch,
    WaitingMessage,
)
from sessionmesh.internal.v1.session_pb2 import StoredSettings
from sessionmesh.v1 import message_pb2, session_pb2

logger = structlog.get_logger(__name__)


NO_TRACES: Mapping[int, str] = {}


class SessionMaker(Protocol):
    """Makes sessions, with all that a node gives them."""

    def driver(self, name: str) -> Driver:
        """Raises `FailedPrecondition` UNSUPPORTED_BY_NETWORK."""

    def make(
        self,
        account: AccountRow,
        epoch: int,
        row: SessionRow,
        state: DriverState | None,
        settings: AccountSettings,
    ) -> Session:
        """A session of the account under this tenure of its shard; it does nothing before its `begin`."""


class AccountLoader:
    """Reads accounts, makes their sessions and gives them what they must still send and fetch.

    `spawn` runs what takes time beside it.
    """

    def __init__(
        self,
        registry: Registry,
        accounts: AccountStore,
        sealer: Sealer,
        maker: SessionMaker,
        media: MediaFetcher,
        spawn: Callable[[str, Coroutine[Any, Any, None]], None],
    ) -> None:
        self._registry = registry
        self._accounts = accounts
        self._sealer = sealer
        self._maker = maker
        self._media = media
        self._spawn = spawn
        self._broken: dict[UUID, int] = {}
        """Accounts that cannot run, and their shards."""
        metrics.UNLOADABLE.set_function(
            lambda: sum(shard in registry.epochs for shard in [*self._broken.values()])
        )

    async def load_shards(self, shards: Mapping[int, int], traces: Mapping[int, str]) -> None:
        """Load the accounts of these shards (shard -> epoch), which came by moves with these traces. A shard
        that is ours must run: this goes on until Postgres answers, or the shard has gone.
        """
        epochs = self._registry.epochs
        while True:
            mine = {shard: epoch for shard, epoch in shards.items() if epochs.get(shard) == epoch}
            if not mine:
                return
            try:
                rows, waiting, fetches, newer = await asyncio.gather(
                    self._accounts.shards(mine),
                    self._accounts.outbox(mine),
                    self._accounts.fetches(mine),
                    self._accounts.newer_than(new_uuid(), mine),
                )
                if newer is not None:  # what comes from now on is behind what came before
                    follow(newer)
                sessions = await self._load(rows, waiting, fetches, mine, traces)
            except UNAVAILABLE as error:
                logger.warning("accounts wait for Postgres", shards=len(mine), error=repr(error))
                await asyncio.sleep(_RETRY_DELAY)
            except Exception:  # other shards are loaded meanwhile
                logger.exception("accounts cannot be loaded", shards=len(mine))
                await asyncio.sleep(_LONG_DELAY)
            else:
                if sessions:
                    logger.info(
                        "accounts loaded", shards=len(mine), accounts=len(sessions), outbox=len(waiting)
                    )
                return

    async def load_account(self, account_id: str, uuid: UUID) -> None:
        """Load one account, if its shard is here. Raises `NotFound`, and `FailedPrecondition` for a driver
        that this node lacks and for a session that cannot be read (SESSION_UNREADABLE).
        """
        epochs = self._registry.epochs.copy()
        rows = await self._accounts.accounts([uuid])
        if not rows:
            raise NotFound("account", account_id)
        self._maker.driver(rows[0].account.driver)
        await self._load_missing(rows, epochs)
        if uuid in self._broken:
            raise FailedPrecondition("the account's stored session cannot be read", "SESSION_UNREADABLE")

    async def refresh(self, accounts: Collection[UUID]) -> None:
        """Read these accounts' rows again, since they may have changed: load new ones, close purged ones."""
        registry = self._registry
        known, epochs = [*filter(None, map(registry.running, accounts))], registry.epochs.copy()
        rows = await self._accounts.accounts(accounts)
        self._refresh(known, rows)
        await self._load_missing(rows, epochs)

    async def reconcile(self) -> None:
        """Bring every session in line with its account's row."""
        registry = self._registry
        epochs = {s: epoch for s, epoch in registry.epochs.items() if s not in registry.loading}
        known = [session for shard in epochs for session in registry.in_shard(shard)]
        rows = await self._accounts.shards(epochs)
        self._refresh(known, rows)
        self._broken = {account: shard for account, shard in self._broken.items() if shard not in epochs}
        await self._load_missing(rows, epochs)

    def _refresh(self, known: Iterable[Session], rows: Iterable[StoredAccount]) -> None:
        """Tell sessions of their rows; `known` are those that ran before the rows were read, and of them the
        ones without a row are purged. One that began meanwhile has a row that the query was too early for.
        """
        found = set()
        for row in rows:
            found.add(row.account.uuid)
            if (session := self._registry.running(row.account.uuid)) is not None:
                with self._guard(row.account):
                    session.refresh(row.account)
        for session in known:
            if session.account.uuid not in found and self._registry.sessions.get(session.id) is session:
                self._registry.remove(session)

    async def _load_missing(self, rows: Iterable[StoredAccount], epochs: Mapping[int, int]) -> None:
        """Load accounts that were made after their shard came, or could not be loaded with it."""
        registry = self._registry
        missing = [
            row
            for row in rows
            if row.account.shard in epochs
            and row.account.shard not in registry.loading
            and registry.running(row.account.uuid) is None
        ]
        waiting: list[WaitingMessage] = []
        fetches: list[WaitingFetch] = []
        if ran := [row.account for row in missing if row.session.update_time is not None]:
            shards, accounts = {account.shard for account in ran}, [account.uuid for account in ran]
            waiting, fetches = await asyncio.gather(
                self._accounts.outbox(shards, accounts), self._accounts.fetches(shards, accounts)
            )
        await self._load(missing, waiting, fetches, epochs)

    async def _load(
        self,
        rows: Iterable[StoredAccount],
        waiting: Iterable[WaitingMessage],
        fetches: Iterable[WaitingFetch],
        epochs: Mapping[int, int],
        traces: Mapping[int, str] = NO_TRACES,
    ) -> list[Session]:
        """Make the sessions of these rows, give them what they must still send and fetch, and let them begin.

        `epochs` are those under which all was read: what a shard's former tenure has read is too old.
        """
        sessions = await self._make(rows, epochs)
        by_uuid = {session.account.uuid: session for session in sessions}
        outboxes: dict[UUID, list[Outgoing]] = {}
        doubtful: dict[UUID, list[Outgoing]] = {}
        for message in waiting:
            if (session := by_uuid.get(message.account)) is None:
                continue
            with self._guard(session.account):
                request = message_pb2.SendMessageRequest.FromString(message.content)
                network_id = session.context.driver.network_id(message.uuid)
                out = Outgoing(message.uuid, network_id, message.chat, request, message.traceparent)
                out.size = len(message.content)
                out.due = message.due if message.due > time.time() else None
                out.attempts = 0 if out.due is not None else 1  # one that was due may have been sent
                of_backup = stored_before_restore(message.epoch, session.context.ref.epoch)
                (doubtful if of_backup else outboxes).setdefault(message.account, []).append(out)
        for uuid, messages in outboxes.items():
            with self._guard(by_uuid[uuid].account):
                by_uuid[uuid].sender.restore(messages)
        for uuid, messages in doubtful.items():
            with self._guard(by_uuid[uuid].account):
                by_uuid[uuid].sender.leave_in_doubt(messages)
        for session in sessions:
            with self._guard(session.account):
                session.begin(traces.get(session.account.shard, ""))
        for fetch in fetches:
            if (owner := by_uuid.get(fetch.account)) is not None:
                with self._guard(owner.account):
                    self._media.add(owner.context, fetch.message, fetch.blob, fetch.attempts, fetch.due)
        paired = [session for session in sessions if session.context.driver_state is not None]
        if paired:
            self._spawn("recall what was sent", self._recall(paired))
        if sessions:
            self._spawn("recall risks", self._recall_risks(sessions))
        return sessions

    async def _make(self, rows: Iterable[StoredAccount], epochs: Mapping[int, int]) -> list[Session]:
        """Sessions of rows, where their shards are still here and no session was made meanwhile."""
        registry, made = self._registry, []
        for row in rows:
            account, state, settings = row.account, None, NO_SETTINGS
            with self._loading(account):
                state = await self._open(row, self._maker.driver(account.driver), epochs[account.shard])
                settings = await self._settings(row)
            if account.uuid in self._broken:
                continue
            if (running := registry.running(account.uuid)) is not None:
                running.refresh(account)
                continue
            epoch = registry.epochs.get(account.shard)
            if epoch is None or epoch != epochs[account.shard]:
                continue
            with self._loading(account):
                session = self._maker.make(account, epoch, _begun(row.session), state, settings)
                registry.add(session)
                made.append(session)
        return made

    @contextmanager
    def _loading(self, account: AccountRow) -> Iterator[None]:
        """What fails here keeps its account from running, until the same succeeds. Only then: while the one
        caller opens a session, another one asks whether it can be opened.
        """
        done = False
        with self._guard(account):
            yield
            done = True
        if done:
            self._broken.pop(account.uuid, None)
        else:
            self._broken[account.uuid] = account.shard

    @contextmanager
    def _guard(self, account: AccountRow) -> Iterator[None]:
        """One account that cannot be loaded, or told of its row, does not keep the others from it."""
        try:
            yield
        except UNAVAILABLE:
            raise  # of all accounts: it is tried again
        except (FailedPrecondition, CannotUnseal) as error:
            logger.warning("an account cannot run", account=str(account.uuid), problem=str(error))
        except Exception:  # whatever is wrong with one account's rows
            logger.exception("an account cannot run", account=str(account.uuid))

    async def _open(self, row: StoredAccount, driver: Driver, epoch: int) -> DriverState | None:
        tenant, sealed = row.account.tenant, row.session.credential
        if not self._sealer.loaded(tenant):
            await self._sealer.load(tenant)
        if sealed is None:
            return None
        state = driver.load(await self._sealer.open(tenant, sealed, row.account.uuid.bytes))
        if state.ratchet is not None and stored_before_restore(row.session.credential_epoch, epoch):
            state.ratchet.restored()
        return state

    async def _settings(self, row: StoredAccount) -> AccountSettings:
        """Raises what keeps the account from running: it must not be seen without its proxy."""
        stored = StoredSettings.FromString(row.session.settings)
        proxy_url = ""
        if stored.sealed_proxy_url:
            binding = proxy_binding(row.account.uuid.bytes)
            opened = await self._sealer.open(row.account.tenant, stored.sealed_proxy_url, binding)
            proxy_url = opened.decode()
        return settings_of(row.session.settings, proxy_url)

    async def _recall(self, sessions: list[Session]) -> None:
        """Count what was sent in the last day, on whatever node, against the accounts' limits."""
        by_uuid = {session.account.uuid: session for session in sessions}
        keys = [*by_uuid]
        for at in range(0, len(keys), _MAX_RECALLED):
            for account, age, count in await self._accounts.sent_lately(keys[at : at + _MAX_RECALLED]):
                by_uuid[account].sender.recall(count, max(age, 0.0))

    async def _recall_risks(self, sessions: list[Session]) -> None:
        """What earlier owners have counted comes to what is counted here: until then none of it is stored."""
        for at in range(0, len(sessions), _MAX_RECALLED):
            part = sessions[at : at + _MAX_RECALLED]
            stored = await self._stored_risks([session.account.uuid for session in part])
            for session in part:
                with self._guard(session.account):
                    session.context.risk.load(stored.get(session.account.uuid), time.time())

    async def _stored_risks(self, accounts: list[UUID]) -> Mapping[UUID, bytes]:
        while True:
            try:
                return await self._accounts.risks(accounts)
            except UNAVAILABLE:
                await asyncio.sleep(_LONG_DELAY)


def _begun(row: SessionRow) -> SessionRow:
    """An account that came with a credential has never had a session, and need not be paired."""
    if row.state == session_pb2.SESSION_STATE_NEW and row.credential is not None and row.update_time is None:
        return replace(row, state=session_pb2.SESSION_STATE_PAUSED, detail=BY_ACCOUNT)
    return row


_RETRY_DELAY = 0.5
_LONG_DELAY = 5.0
_MAX_RECALLED = 500  # accounts in one query
