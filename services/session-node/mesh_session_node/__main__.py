"""The session-node: `python -m mesh_session_node`."""

from __future__ import annotations

import asyncio
import gc
import time

import structlog

from mesh_core.database import Database
from mesh_core.database.identity import page_token_key
from mesh_core.database.reads import SharedReads
from mesh_core.database.watch import watch
from mesh_core.errors import MeshError, StartupError
from mesh_core.etcd import Etcd
from mesh_core.etcd.discovery import ServiceDirectory
from mesh_core.events.notify import Notifier
from mesh_core.ids import new_uuid
from mesh_core.kept.answers import KeptAnswers
from mesh_core.ownership.keys import NodeInfo, NodeState
from mesh_core.ownership.participant import Ownership
from mesh_core.paging import Pager
from mesh_core.process.log_levels import follow_log_levels
from mesh_core.process.service import Stop, run, service_version
from mesh_core.process.surroundings import check_surroundings
from mesh_core.process.watchdog import WatchdogClient
from mesh_core.rpc.audit import AuditLog
from mesh_core.rpc.auth import KeyAuthenticator, api_key_lookup, calling_tenant
from mesh_core.rpc.channels import ChannelPool
from mesh_core.rpc.limits import Entry
from mesh_core.rpc.peers import PeerPool
from mesh_core.rpc.server import Server
from mesh_core.rpc.tls import ChannelTls, client_context
from mesh_core.sealing import PostgresDataKeys, Sealer, check_master_keys
from mesh_core.tasks import Supervisor
from mesh_core.usage.writer import UsageWriter
from mesh_session_node.calls.account_call import AccountCalls
from mesh_session_node.calls.channels.channel_service import ChannelService
from mesh_session_node.calls.chats.chat_service import ChatService
from mesh_session_node.calls.contacts.contact_service import ContactService
from mesh_session_node.calls.contacts.presence_service import CallService, PresenceService
from mesh_session_node.calls.contacts.profile_service import ProfileService
from mesh_session_node.calls.groups.community_service import CommunityService
from mesh_session_node.calls.groups.group_calls import GroupCalls
from mesh_session_node.calls.groups.group_service import GroupService
from mesh_session_node.calls.messages.message_service import MessageService
from mesh_session_node.calls.messages.sending import Sending
from mesh_session_node.calls.server.node_service import NodeService
from mesh_session_node.calls.server.server_service import ServerService
from mesh_session_node.calls.sessions.session_service import SessionService
from mesh_session_node.drivers.registry import Drivers
from mesh_session_node.journal import Journal
from mesh_session_node.node import maintenance
from mesh_session_node.node.forwarding import OwnerForwarder
from mesh_session_node.node.node import Node
from mesh_session_node.outbound.link_previews import LinkPreviews
from mesh_session_node.settings import SessionNodeSettings
from mesh_session_node.store.accounts import AccountStore, SendLimits
from mesh_session_node.store.chats import ChatStore
from mesh_session_node.store.driver_rows import DriverRowStore
from mesh_session_node.store.history_jobs import HistoryJobs
from mesh_session_node.store.labels import LabelStore
from mesh_session_node.store.media import MediaClient
from mesh_session_node.store.messages import MessageStore
from mesh_session_node.store.pictures import Pictures
from mesh_session_node.store.records import RecordStore, RequestStore
from mesh_session_node.store.sessions import SessionStore
from sessionmesh.internal.v1 import node_pb2_grpc
from sessionmesh.v1 import (
    call_pb2_grpc,
    channel_pb2_grpc,
    chat_pb2_grpc,
    community_pb2_grpc,
    contact_pb2_grpc,
    group_pb2_grpc,
    message_pb2_grpc,
    presence_pb2_grpc,
    profile_pb2_grpc,
    server_pb2_grpc,
    session_pb2_grpc,
)

logger = structlog.get_logger(__name__)

OLDEST_SCHEMA = 23


async def main(settings: SessionNodeSettings, stop: Stop) -> None:
    """Parts, serve, wait for a signal, drain, stop."""
    watchdog = WatchdogClient.from_environment()
    private = settings.session.preview_private_addresses
    async with LinkPreviews(allow_private_addresses=private) as previews, Supervisor(stop.fail) as supervisor:
        database = await Database.open(settings.database)
        etcd = Etcd(settings.etcd)
        cluster = settings.cluster.name
        await check_surroundings(database, etcd, cluster, OLDEST_SCHEMA)
        await check_master_keys(database, settings.secrets)
        await maintenance.prepare(database)
        media = ServiceDirectory(etcd, cluster, "media", supervisor=supervisor)
        await media.start()
        channels = ChannelPool(
            tls=ChannelTls.of(settings.server), max_message_bytes=settings.server.max_message_bytes
        )
        notifier = Notifier(database)
        supervisor.start("event notifier", notifier.run())
        supervisor.start("maintenance", maintenance.maintain_tables(database))

        incarnation = f"{settings.node.id or 'node'}-{new_uuid().hex}"
        node_id = settings.node.id or f"node-{incarnation[-8:]}"
        if watchdog is not None:
            watchdog.introduce(cluster, incarnation, settings.etcd)
            supervisor.start("watchdog heartbeat", watchdog.run_heartbeat())
        journal = Journal(database.connect_journal, incarnation, after_commit=notifier.wake)
        entry = Entry.of(settings.server, settings.auth, settings.redis, settings.limits)
        authenticator = KeyAuthenticator(api_key_lookup(database), settings.auth)
        audit = AuditLog(database.pool)
        usage = UsageWriter(database.pool)
        supervisor.start("audit log", audit.run())
        supervisor.start("log levels", follow_log_levels(etcd, cluster, "session-node", node_id))
        supervisor.start("database watch", watch(database.pool))
        supervisor.start("usage", usage.run())
        server = Server(settings.server, authenticator=authenticator, entry=entry, audit=audit)
        server.bind()
        ownership = Ownership(
            etcd=etcd,
            connect=database.connect_direct,
            cluster=cluster,
            node=NodeInfo(
                id=node_id,
                incarnation=incarnation,
                address=server.address,
                capacity=settings.node.capacity,
                state=NodeState.STANDBY if settings.node.standby else NodeState.ACTIVE,
                version=service_version(),
                start_time=time.time(),
                metrics=server.metrics_address,
            ),
            supervisor=supervisor,
            watchdog=watchdog,
        )
        reads = SharedReads(database, calling_tenant)
        accounts, messages = AccountStore(database.pool, _limits(settings)), MessageStore(reads)
        drivers = Drivers.from_settings(settings)
        for name, work in drivers.background():
            supervisor.start(name, work)
        history = HistoryJobs(database)
        sealer = Sealer(PostgresDataKeys(database), settings.secrets)
        kept = KeptAnswers(settings.redis.url)
        node = Node(
            node_id=node_id,
            settings=settings.session,
            drivers=drivers,
            journal=journal,
            accounts=accounts,
            messages=messages,
            sealer=sealer,
            media=MediaClient(channels, media, settings.mediaservice.address, settings.auth.mesh_key),
            previews=previews,
            rows=DriverRowStore(database.pool, sealer),
            records=RecordStore(reads),
            kept=kept,
            chats=ChatStore(reads),
            labels=LabelStore(reads),
            history=history,
            ownership=ownership,
        )
        journal_task = supervisor.start("journal", journal.run(node.on_commit))
        pager = Pager(await page_token_key(database))
        _add_services(server, node, messages, kept, reads, history, pager)
        info = ServerService(drivers, settings.cluster, settings.server.max_message_bytes)
        server.add(server_pb2_grpc.add_ServerServiceServicer_to_server, info)
        peer_pool = PeerPool(channels, settings.auth.mesh_key, client_context(settings.server))
        server.forward_not_owned(OwnerForwarder(node_id, ownership, peer_pool))
        server.readiness.need("ownership", ownership.unready)
        await server.start(healthy=False)
        await accounts.warm_up()
        node.start(supervisor)
        try:
            await ownership.start(node.handler)
        except MeshError as error:
            raise StartupError(f"ownership cannot begin: {error.message}") from None
        server.become_healthy()
        await server.readiness.look()
        supervisor.start("readiness", server.readiness.run())
        gc.collect()
        gc.freeze()
        logger.info("session-node runs", node_id=node_id, incarnation=incarnation, address=server.address)

        await stop.wait()
        await asyncio.gather(server.drain(), ownership.drain(settings.server.drain_seconds))
        await ownership.stop()
        await node.stop()
        await server.stop()
        await audit.close()
        await usage.write()
        await entry.close()
        await kept.close()
        peer_pool.close()
        journal_task.cancel()
        await channels.close()
    await etcd.close()
    await database.close()


def _add_services(
    server: Server,
    node: Node,
    messages: MessageStore,
    kept: KeptAnswers,
    reads: SharedReads,
    history: HistoryJobs,
    pager: Pager,
) -> None:
    calls = AccountCalls(node.lookup, RequestStore(reads))
    sending = Sending(node.lookup, messages, node.references, node.preparation)
    message_service = MessageService(calls, messages, node.references, sending, node.changes, pager)
    server.add(message_pb2_grpc.add_MessageServiceServicer_to_server, message_service)
    server.add_bytes("sessionmesh.v1.MessageService", {"SendMessage": message_service.send_message})
    pictures = Pictures(node.media)
    contact_service = ContactService(calls, kept, node.address_book, pictures, pager)
    server.add(contact_pb2_grpc.add_ContactServiceServicer_to_server, contact_service)
    profile_service = ProfileService(calls, RecordStore(reads), pictures)
    server.add(profile_pb2_grpc.add_ProfileServiceServicer_to_server, profile_service)
    server.add(presence_pb2_grpc.add_PresenceServiceServicer_to_server, PresenceService(calls))
    server.add(call_pb2_grpc.add_CallServiceServicer_to_server, CallService(calls, node.calls))
    channel_service = ChannelService(calls, node.channels, messages, pictures, pager)
    server.add(channel_pb2_grpc.add_ChannelServiceServicer_to_server, channel_service)
    chat_service = ChatService(calls, node.chats, node.labels, node.references, pager, history)
    server.add(chat_pb2_grpc.add_ChatServiceServicer_to_server, chat_service)
    groups = GroupCalls(calls, node.groups, pictures)
    group_service = GroupService(groups, node.group_news, node.references, pager)
    server.add(group_pb2_grpc.add_GroupServiceServicer_to_server, group_service)
    community_service = CommunityService(groups, node.group_news, pager)
    server.add(community_pb2_grpc.add_CommunityServiceServicer_to_server, community_service)
    session_service = SessionService(calls, node.pairings, SessionStore(reads), pager)
    server.add(session_pb2_grpc.add_SessionServiceServicer_to_server, session_service)
    server.add(
        node_pb2_grpc.add_NodeServiceServicer_to_server, NodeService(node.loader, node.registry.sessions)
    )
    server.add_bytes(
        "sessionmesh.internal.v1.NodeService", {"AcceptMessages": message_service.accept_messages}
    )


def _limits(settings: SessionNodeSettings) -> SendLimits:
    session = settings.session
    return SendLimits(session.send_per_minute, session.send_per_hour, session.send_per_day, session.outbox)


if __name__ == "__main__":
    run("sessionmesh-session-node", SessionNodeSettings, main)
