"""The node: its parts wired together, and what its sessions ask of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import MeshError
from mesh_core.ownership.participant import Ownership
from mesh_core.sealing import Sealer
from mesh_core.tasks import Supervisor
from mesh_session_node import metrics
from mesh_session_node.drivers.interface.content import Incoming
from mesh_session_node.drivers.interface.driver import Driver
from mesh_session_node.drivers.interface.outcomes import Receipt
from mesh_session_node.drivers.registry import Drivers
from mesh_session_node.journal import Journal
from mesh_session_node.journal.writer import Stored
from mesh_session_node.keepalive import Keepalive
from mesh_session_node.media_client import MediaClient
from mesh_session_node.media_transfer import InboundMedia
from mesh_session_node.pacing import Pacer
from mesh_session_node.pairing import Pairings
from mesh_session_node.preparing import Prepared, Preparing
from mesh_session_node.queries import Queries
from mesh_session_node.receipts import LateReceipts, ReceiptAcks
from mesh_session_node.session.outgoing import AcceptedRow, Outgoing
from mesh_session_node.session.session import Session
from mesh_session_node.settings import SessionSettings
from mesh_session_node.shards import Shards

logger = structlog.get_logger(__name__)


class Node:
    """Implements `Host`. Make it, make `Ownership` with `shards` as its handler, call `own`, then `start`."""

    def __init__(
        self,
        *,
        node_id: str,
        settings: SessionSettings,
        drivers: Drivers,
        journal: Journal,
        queries: Queries,
        sealer: Sealer,
        media: MediaClient,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.journal = journal
        self.node_id = node_id
        self.settings = settings
        self.queries = queries
        self.preparing = Preparing(queries, media)
        self.pairings = Pairings(settings)
        self._drivers = drivers
        self._sealer = sealer
        self._media = InboundMedia(
            media, queries, settings.media_transfers, settings.fetch_media_up_to, self.spawn
        )
        self._pacer = Pacer(settings.connects_per_second, settings.connects_at_once, self.spawn)
        self._late_receipts = LateReceipts(queries)
        self._receipt_acks = ReceiptAcks(journal)
        self._ownership: Ownership | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.shards = Shards(self, queries, sealer, journal, self._media, self.pairings.forget)
        metrics.OUTBOX.set_function(lambda: sum(s.sender.queued for s in self.shards.sessions.values()))

    def own(self, ownership: Ownership) -> None:
        """What decides which shards run here."""
        self._ownership = ownership
        self.shards.ownership = ownership

    def start(self, supervisor: Supervisor) -> None:
        """Begin everything that goes on by itself."""
        supervisor.start("connects", self._pacer.run())
        supervisor.start("keepalive", Keepalive(self.shards.sessions, self.settings.keepalive_seconds).run())
        supervisor.start("late receipts", self._late_receipts.run())
        supervisor.start("receipt acknowledgements", self._receipt_acks.run())
        supervisor.start("reconcile", self._reconcile())

    async def stop(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def on_commit(self, stored: Stored) -> None:
        """Messages are stored: send them, without another turn of the loop."""
        for _, row in stored:
            if isinstance(row, AcceptedRow) and not row.out.session.closed:
                row.out.session.sender.committed(row.out)

    def refused(self, session: Session) -> MeshError:
        """The fence refused a write: believe it. The error for the caller."""
        if self._ownership is not None:
            self._ownership.fence_refused([session.ref.shard])
        return self.shards.not_owner(session.ref.shard)

    # --- Host

    def may_act(self, session: Session) -> bool:
        ref = session.ref
        return self._ownership is not None and self._ownership.epoch(ref.shard) == ref.epoch

    def driver(self, name: str) -> Driver:
        return self._drivers.get(name)

    def seal(self, tenant: UUID, plain: bytes, context: bytes) -> bytes:
        return self._sealer.seal(tenant, plain, context)

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def admit(self, session: Session) -> None:
        self._pacer.admit(session)

    async def prepare(self, session: Session, out: Outgoing) -> Prepared:
        return await self.preparing.prepare(session, out)

    async def receive_reference(self, session: Session, came: Incoming) -> None:
        await self.preparing.receive(session, came)

    def late_receipt(
        self, session: Session, network_id: str, receipt: Receipt, time: int, member: str
    ) -> None:
        self._late_receipts.add(session, network_id, receipt, time, member)

    def receipts_heard(self, session: Session, sequence: int) -> None:
        self._receipt_acks.heard(session, sequence)

    def fetch_media(self, session: Session, message: UUID, blob: bytes) -> None:
        self._media.add(session, message, blob)

    async def _reconcile(self) -> None:
        while True:
            await asyncio.sleep(self.settings.reconcile_seconds)
            try:
                await self.shards.reconcile()
                await self.queries.warm_up()
            except Exception as error:
                logger.warning("accounts not reconciled", error=repr(error))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("work for a session failed", task=task.get_name(), exc_info=error)
