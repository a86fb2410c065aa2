"""The router: one address for everything."""

from __future__ import annotations

import asyncio
import os
import sys

from mesh_core import ids
from mesh_core.database import Database
from mesh_core.database.identity import page_token_key
from mesh_core.database.watch import watch
from mesh_core.etcd import Etcd
from mesh_core.etcd.discovery import ServiceDirectory, ServiceInfo, register
from mesh_core.events.notify import Notifier
from mesh_core.jobs.store import keep_deleting_ended
from mesh_core.kept.answers import KeptAnswers
from mesh_core.ownership.view import OwnerView
from mesh_core.paging import Pager
from mesh_core.process.log_levels import follow_log_levels
from mesh_core.process.service import Stop, run, service_version
from mesh_core.process.surroundings import check_surroundings
from mesh_core.rpc.audit import AuditLog
from mesh_core.rpc.auth import KeyAuthenticator, api_key_lookup
from mesh_core.rpc.channels import ChannelPool
from mesh_core.rpc.limits import Entry
from mesh_core.rpc.peers import PeerPool
from mesh_core.rpc.server import Server
from mesh_core.rpc.tls import ChannelTls, client_context
from mesh_core.settings import load
from mesh_core.tasks import Supervisor
from mesh_parent import beats, command_line
from mesh_parent.prefork import is_worker
from mesh_router.accounts import AccountService
from mesh_router.accounts.owner_notifier import OwnerNotifier
from mesh_router.audit import AuditService
from mesh_router.fleet import Fleet, FleetService, NodeConnects
from mesh_router.jobs import JobService
from mesh_router.proxy import BulkSender, Forwarder, Upstreams
from mesh_router.proxy.eviction import evict_dead_nodes, evict_unregistered
from mesh_router.proxy.routes import KINDS
from mesh_router.retention import Policy, Retention
from mesh_router.settings import RouterSettings
from mesh_router.tenants import NodeMemories, PersonErasures, TenantDeletions, TenantService
from mesh_router.xds import ControlPlane
from mesh_router.xds.state import ROUTERS
from sessionmesh.admin.v1 import fleet_pb2_grpc
from sessionmesh.v1 import account_pb2_grpc, audit_pb2_grpc, job_pb2, job_pb2_grpc, tenant_pb2_grpc

OLDEST_SCHEMA = 23


async def main(settings: RouterSettings, stop: Stop) -> None:
    """Serves until `stop` is requested, then drains."""
    async with Supervisor(stop.fail) as supervisor:
        if is_worker():
            supervisor.start("worker-beats", keep_beating())
        database = await Database.open(settings.database)
        etcd = Etcd(settings.etcd)
        cluster = settings.cluster.name
        await check_surroundings(database, etcd, cluster, OLDEST_SCHEMA)
        view = OwnerView(etcd=etcd, cluster=cluster, supervisor=supervisor)
        await view.start()
        directories = {kind: ServiceDirectory(etcd, cluster, kind, supervisor=supervisor) for kind in KINDS}
        routers = ServiceDirectory(etcd, cluster, ROUTERS, supervisor=supervisor)
        for directory in (*directories.values(), routers):
            await directory.start()
        tls = ChannelTls.of(settings.server)
        channels = ChannelPool(tls=tls, max_message_bytes=settings.server.max_message_bytes)
        peer_pool = PeerPool(channels, settings.auth.mesh_key, client_context(settings.server))
        upstreams = Upstreams(channels, peer_pool, settings.auth.mesh_key)
        entry = Entry.of(settings.server, settings.auth, settings.redis, settings.limits)
        notifier = Notifier(database)
        supervisor.start("event-notifier", notifier.run())
        supervisor.start("evict-unregistered", evict_unregistered(view, directories, upstreams))
        supervisor.start("evict-dead-nodes", evict_dead_nodes(view, upstreams))

        policy = Policy.of_days(settings.retention.days, settings.retention.longest_days)
        retention = Retention(database, policy)
        supervisor.start("retention", retention.run())
        fleet = Fleet(database, etcd, cluster, view, retention)
        await fleet.start(supervisor)
        supervisor.start("delete-ended-jobs", keep_deleting_ended(database))

        pager = Pager(await page_token_key(database))
        owners = OwnerNotifier(view, channels, settings.auth.mesh_key)
        deletions = TenantDeletions(database, owners.changed)
        supervisor.start("deletions-of-tenants", deletions.run())
        memories = NodeMemories(view, channels, settings.auth.mesh_key)
        erasures = PersonErasures(database, memories.forget)
        supervisor.start("erasures-of-persons", erasures.run())
        audit = AuditLog(database.pool)
        supervisor.start("audit log", audit.run())
        supervisor.start("log levels", follow_log_levels(etcd, cluster, "router"))
        supervisor.start("database watch", watch(database.pool, server=True))
        server = Server(
            settings.server,
            authenticator=KeyAuthenticator(api_key_lookup(database), settings.auth),
            entry=entry,
            audit=audit,
            shared_port=is_worker(),
        )
        accounts = AccountService(
            database,
            pager,
            owners,
            notifier.wake,
            fleet.admission,
            settings.sendceiling,
            settings.cluster.default_driver,
        )
        server.add(account_pb2_grpc.add_AccountServiceServicer_to_server, accounts)
        server.add_bytes("sessionmesh.v1.AccountService", {"ListAccounts": accounts.list_accounts})
        tenants = TenantService(database, pager, policy, deletions, erasures)
        server.add(tenant_pb2_grpc.add_TenantServiceServicer_to_server, tenants)
        server.add_bytes("sessionmesh.v1.TenantService", {"ListApiKeys": tenants.list_api_keys})
        kept = KeptAnswers(settings.redis.url)
        connects = NodeConnects(database, view, channels, settings.auth.mesh_key)
        server.add(
            fleet_pb2_grpc.add_FleetServiceServicer_to_server,
            FleetService(database, view, pager, fleet, connects, kept, settings.cluster.default_driver),
        )
        jobs = JobService(
            database,
            pager,
            {
                job_pb2.JOB_KIND_DRAIN_NODE: fleet.drains,
                job_pb2.JOB_KIND_DELETE_TENANT: deletions,
                job_pb2.JOB_KIND_ERASE_PERSON: erasures,
            },
        )
        server.add(job_pb2_grpc.add_JobServiceServicer_to_server, jobs)
        server.add(audit_pb2_grpc.add_AuditServiceServicer_to_server, AuditService(database, pager))
        Forwarder(view, directories, upstreams).serve_on(server)
        BulkSender(view, upstreams, entry).serve_on(server)
        control_plane = ControlPlane(view, {**directories, ROUTERS: routers}, settings.server)
        control_plane.serve_on(server)

        server.readiness.need("the table", view.unready)
        await server.readiness.look()
        supervisor.start("readiness", server.readiness.run())
        await server.start()
        control_plane.start(server, supervisor)
        info = ServiceInfo(
            id=str(ids.new_uuid()),
            address=server.address,
            tls=tls is not None,
            version=service_version(),
            metrics=server.metrics_address,
        )
        registration = await register(etcd, cluster, ROUTERS, info, supervisor=supervisor)
        await stop.wait()
        await registration.stop()
        await server.drain()
        await server.stop()
        await audit.close()
        await entry.close()
        await kept.close()
        peer_pool.close()
        await channels.close()
    await etcd.close()
    await database.close()


async def keep_beating() -> None:
    """Tell the parent of the workers that this one's loop turns."""
    while True:
        beats.beat()
        await asyncio.sleep(beats.EVERY_SECONDS)


def prefork(settings: RouterSettings) -> None:
    """With several workers: become their parent, which imports next to nothing where this has much."""
    workers = settings.router.workers
    if workers == 1:
        return
    options = {
        "--workers": str(workers),
        "--listen": settings.server.listen,
        "--metrics": settings.server.metrics_listen,
    }
    command = command_line("prefork", options, [sys.executable, "-m", "mesh_router"])
    os.execv(command[0], command)  # noqa: S606 - its purpose


if __name__ == "__main__":
    if not is_worker():
        prefork(load(RouterSettings))
    run("sessionmesh-router", RouterSettings, main)
