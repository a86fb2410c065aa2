"""The node: its parts wired together, and what it is for its sessions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import UNAVAILABLE
from mesh_core.ids import Prefix, encode
from mesh_core.kept.answers import KeptAnswers
from mesh_core.sealing import CannotUnseal, Sealer
from mesh_core.tasks import Supervisor
from mesh_session_node.account.pairing import Pairings
from mesh_session_node.account.session import Session
from mesh_session_node.context import metrics
from mesh_session_node.context.account_settings import AccountSettings
from mesh_session_node.context.address_book import AddressBook
from mesh_session_node.context.context import Counters, SessionContext, SessionSettings
from mesh_session_node.context.events import EventMaker
from mesh_session_node.context.proxies import Proxies
from mesh_session_node.drivers.interface.driver import Driver
from mesh_session_node.drivers.interface.state import DriverState, StateUnavailable
from mesh_session_node.drivers.registry import Drivers
from mesh_session_node.inbound.calls import Calls
from mesh_session_node.inbound.changes import ContentChanges
from mesh_session_node.inbound.channel_notices import ChannelNotices
from mesh_session_node.inbound.channels import Channels
from mesh_session_node.inbound.chat_notices import ChatNotices
from mesh_session_node.inbound.chats import Chats
from mesh_session_node.inbound.group_list import GroupList
from mesh_session_node.inbound.group_news import GroupNews
from mesh_session_node.inbound.groups import GroupBook
from mesh_session_node.inbound.history import Histories
from mesh_session_node.inbound.labels import Labels
from mesh_session_node.inbound.media import MediaFetcher
from mesh_session_node.inbound.notice_takers import notice_takers
from mesh_session_node.inbound.notices import Notices
from mesh_session_node.inbound.people import PeopleNotices
from mesh_session_node.inbound.receiver import Receiver
from mesh_session_node.inbound.votes import Votes
from mesh_session_node.journal import AccountRef, Journal
from mesh_session_node.journal.writer import Stored
from mesh_session_node.node import maintenance
from mesh_session_node.node.connect_limiter import ConnectLimiter
from mesh_session_node.node.loader import AccountLoader
from mesh_session_node.node.lookup import AccountLookup, NodeOwnership
from mesh_session_node.node.networks import Networks
from mesh_session_node.node.registry import Registry
from mesh_session_node.node.shard_handler import NodeShardHandler
from mesh_session_node.outbound.link_previews import LinkPreviews
from mesh_session_node.outbound.outgoing import AcceptedRow
from mesh_session_node.outbound.preparation import Preparation
from mesh_session_node.outbound.receipts import LateReceipts, ReceiptAcks
from mesh_session_node.outbound.references import ReferenceLookup
from mesh_session_node.outbound.room import AccountRoom, NodeRoom
from mesh_session_node.outbound.sender import Sender
from mesh_session_node.store.accounts import AccountRow, AccountStore, SessionRow
from mesh_session_node.store.chats import ChatStore
from mesh_session_node.store.driver_rows import DriverRowStore
from mesh_session_node.store.history_jobs import HistoryJobs
from mesh_session_node.store.labels import LabelStore
from mesh_session_node.store.media import MediaClient
from mesh_session_node.store.messages import MessageStore
from mesh_session_node.store.records import RecordStore

logger = structlog.get_logger(__name__)


class Node:
    """Implements `Host` and `SessionMaker`. `handler` is for ownership."""

    def __init__(
        self,
        *,
        node_id: str,
        settings: SessionSettings,
        drivers: Drivers,
        journal: Journal,
        accounts: AccountStore,
        messages: MessageStore,
        sealer: Sealer,
        media: MediaClient,
        previews: LinkPreviews,
        rows: DriverRowStore,
        records: RecordStore,
        kept: KeptAnswers,
        chats: ChatStore,
        labels: LabelStore,
        history: HistoryJobs,
        ownership: NodeOwnership,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.journal = journal
        self.node_id = node_id
        self.settings = settings
        self.proxies = Proxies(allow_private=settings.proxy_private_addresses)
        self.references = ReferenceLookup(messages)
        self.address_book = AddressBook(records, messages)
        self.media = media
        self.preparation = Preparation(self.references, media, previews)
        self._pictures = ThreadPoolExecutor(1, thread_name_prefix="pictures")
        self.pairings = Pairings(settings, self._pictures)
        self.registry = Registry(self.pairings.forget)
        self._tasks: set[asyncio.Task[None]] = set()
        self._drivers = drivers
        self._sealer = sealer
        self._rows = rows
        self._accounts = accounts
        self._epoch = ownership.epoch
        self._late_receipts = LateReceipts(messages)
        self._receipt_acks = ReceiptAcks(journal, self._late_receipts)
        self._room = NodeRoom(settings.node_outbox_bytes)
        self._connects = ConnectLimiter(settings.connects_per_second, settings.connects_at_once, self.spawn)
        self.changes = ContentChanges(self.references)
        self.chats = Chats(chats, self.references)
        self.labels = Labels(labels, self.chats)
        fetcher = MediaFetcher(
            media, messages, self.changes, settings.media_transfers, settings.fetch_media_up_to
        )
        self._votes = Votes(self.references, self.changes, records)
        self.calls = Calls(records)
        self.groups = GroupBook(records)
        self.group_news = GroupNews(self.groups)
        self._group_list = GroupList(self.groups)
        self._receiver = Receiver(self.references, self.changes, self._votes, fetcher)
        chat_notices = ChatNotices(self.chats, self.labels, self.references, self._receiver)
        self.channels = Channels(records)
        channel_notices = ChannelNotices(self.channels, messages)
        people = PeopleNotices(self.address_book, kept)
        takers = notice_takers(self.calls, channel_notices, chat_notices, self.group_news, people)
        self._notices = Notices(takers)
        self.loader = AccountLoader(self.registry, accounts, sealer, self, fetcher, self.spawn)
        self.lookup = AccountLookup(node_id, self.registry, self.loader, ownership)
        self.handler = NodeShardHandler(self.registry, self.loader, journal, time.monotonic)
        sessions = self.registry.sessions
        self._histories = Histories(history, self.chats, fetcher, self.registry)
        self._networks = Networks(sessions)
        # These are called in the thread of the metrics page: a list is made in one step
        metrics.RISKY.set_function(lambda: sum(one.context.risk.raised for one in [*sessions.values()]))
        metrics.OUTBOX.set_function(lambda: sum(one.sender.queued for one in [*sessions.values()]))
        metrics.OUTBOX_AGE.set_function(
            lambda: max(0.0, *(time.time() - one.sender.oldest() for one in [*sessions.values()]), 0.0)
        )

    def start(self, supervisor: Supervisor) -> None:
        """Begin everything that goes on by itself."""
        settings = self.settings
        supervisor.start("connects", self._connects.run())
        supervisor.start("networks", self._networks.run())
        supervisor.start(
            "keepalive", maintenance.keep_alive(self.registry.sessions, settings.keepalive_seconds)
        )
        supervisor.start("history", self._histories.run())
        supervisor.start("chats", maintenance.fold_chats(self.registry.sessions, self.chats.store))
        supervisor.start("late receipts", self._late_receipts.run())
        supervisor.start("receipt acknowledgements", self._receipt_acks.run())
        supervisor.start(
            "reconcile",
            maintenance.reconcile(settings.reconcile_seconds, self.loader.reconcile, self._accounts.warm_up),
        )

    async def stop(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._pictures.shutdown(cancel_futures=True)
        await self.proxies.close()

    def on_commit(self, stored: Stored) -> None:
        """Messages are stored: send them, without another turn of the loop."""
        for _, row in stored:
            if isinstance(row, AcceptedRow):
                try:
                    row.sender.committed(row.out)
                except Exception:  # one account's: the others' messages of the commit are still to be sent
                    logger.exception("a stored message was not handed on", message_id=row.out.id)

    # --- SessionMaker

    def driver(self, name: str) -> Driver:
        return self._drivers.get(name)

    def make(
        self,
        account: AccountRow,
        epoch: int,
        row: SessionRow,
        state: DriverState | None,
        settings: AccountSettings,
    ) -> Session:
        context = SessionContext(
            self,
            AccountRef(account.uuid, account.tenant, account.shard, epoch),
            self._drivers.get(account.driver),
            state,
            EventMaker(
                encode(Prefix.TENANT, account.tenant), encode(Prefix.ACCOUNT, account.uuid), account.labels
            ),
            Counters(row),
            settings,
        )
        room = AccountRoom(self._room, account.tenant, self.settings.outbox_bytes)
        late, acks = self._late_receipts, self._receipt_acks
        sender = Sender(context, account.limits, self.preparation, late, acks, room)
        network = self._networks.of(account.driver)
        return Session(context, account, row, sender, self._receiver, self._notices, self._connects, network)

    # --- Host

    def may_act(self, ref: AccountRef) -> bool:
        return self._epoch(ref.shard) == ref.epoch

    def seal(self, tenant: UUID, plain: bytes, context: bytes) -> bytes:
        return self._sealer.seal(tenant, plain, context)

    async def read_rows(
        self, ref: AccountRef, keys: Collection[str], prefixes: Collection[str]
    ) -> Mapping[str, bytes]:
        try:
            return await self._rows.read(ref.tenant, ref.uuid, keys, prefixes)
        except _UNREADABLE as error:
            raise StateUnavailable(f"rows of the driver's state cannot be read: {error}") from error

    def voted(self, session: SessionContext, poll: str, answers: Sequence[str], micros: int) -> None:
        counting = self._votes.count_own(session, poll, answers, micros)
        self.spawn(f"count a vote of {session.id}", counting)

    def connected(self, session: SessionContext) -> None:
        self._group_list.connected(session)

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("work for a session failed", task=task.get_name(), exc_info=error)


_UNREADABLE: tuple[type[Exception], ...] = (CannotUnseal, *UNAVAILABLE)
