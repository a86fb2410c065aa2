"""The media service: `python -m mesh_media`."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from msgspec.structs import replace

from mesh_core import ids
from mesh_core.database import Database
from mesh_core.database.identity import page_token_key
from mesh_core.database.watch import unready, watch
from mesh_core.etcd import Etcd
from mesh_core.etcd.discovery import ServiceInfo, register
from mesh_core.paging import Pager
from mesh_core.process.log_levels import follow_log_levels
from mesh_core.process.service import Stop, run, service_version
from mesh_core.process.surroundings import check_surroundings, refuse_full
from mesh_core.rpc.audit import AuditLog
from mesh_core.rpc.auth import KeyAuthenticator, api_key_lookup
from mesh_core.rpc.limits import Entry
from mesh_core.rpc.server import Server
from mesh_core.tasks import Supervisor
from mesh_core.usage.writer import UsageWriter
from mesh_media.api.fetches import FetchRequests
from mesh_media.api.link_server import LinkServer
from mesh_media.api.links import DownloadUrls, LinkSigner
from mesh_media.api.media_service import MediaService
from mesh_media.api.reader import Reader
from mesh_media.api.stock import Stock
from mesh_media.api.uploads import Uploads
from mesh_media.ingest.ingest import Ingest, IngestLimits
from mesh_media.ingest.web import Web
from mesh_media.migration.migrations import Migrations
from mesh_media.migration.scans import Scans
from mesh_media.processing.processor import ProcessingLimits, Processor
from mesh_media.processing.spool import SpoolFolder, own_folder
from mesh_media.repository.expiry_repository import ExpiryRepository
from mesh_media.repository.limit_repository import LimitRepository
from mesh_media.repository.media_repository import MediaRepository
from mesh_media.repository.object_repository import ObjectRepository
from mesh_media.repository.storage_repository import StorageRepository
from mesh_media.repository.usage_repository import UsageRepository
from mesh_media.retention.pruning import Pruning
from mesh_media.retention.sweeper import Sweeper
from mesh_media.settings import MediaServiceSettings, MediaSettings
from mesh_media.stores.named_stores import open_stores
from sessionmesh.v1 import media_pb2_grpc

OLDEST_SCHEMA = 23
"""The oldest schema that this service works with."""


async def main(settings: MediaServiceSettings, stop: Stop) -> None:
    """Makes the parts, serves, waits for a signal, drains and stops."""
    with own_folder(settings.media.spool) as folder:
        refuse_full(Path(folder).parent, "MESH_MEDIA_SPOOL")
        await _run(replace(settings, media=replace(settings.media, spool=folder)), stop)


async def _run(settings: MediaServiceSettings, stop: Stop) -> None:
    database = await Database.open(settings.database)
    etcd = Etcd(settings.etcd)
    await check_surroundings(database, etcd, settings.cluster.name, OLDEST_SCHEMA)
    store = await open_stores(settings.objects)
    storage = StorageRepository(database)
    await storage.read(store.names)
    limits = settings.media
    processor = Processor(_processing_limits(limits))
    media, objects = MediaRepository(database), ObjectRepository(database)
    grace = timedelta(seconds=limits.delete_grace_seconds)
    expiry, pruning = ExpiryRepository(database, grace), Pruning(database, grace)
    migrations, scans = Migrations(database, store, grace), Scans(database, store)
    usage = UsageRepository(database)
    sweeper = Sweeper(
        expiry,
        objects,
        store,
        interval_seconds=limits.sweep_seconds,
        usage=usage,
        limits=LimitRepository(database, grace),
    )
    key = await page_token_key(database)
    pager, signer, reader = Pager(key), LinkSigner(key), Reader(media, store)
    entry = Entry.of(settings.server, settings.auth, settings.redis, settings.limits)
    authenticator = KeyAuthenticator(api_key_lookup(database), settings.auth)
    audit = AuditLog(database.pool)
    used = UsageWriter(database.pool)
    server = Server(settings.server, authenticator=authenticator, entry=entry, audit=audit)
    web = Web(
        max_bytes=limits.max_bytes,
        allow_http=limits.fetch_allow_http,
        allow_private_addresses=limits.fetch_allow_private_addresses,
    )

    async with web, Supervisor(stop.fail) as supervisor:
        ingest = Ingest(database, store, storage.new_key, processor, web, supervisor, _ingest_limits(limits))
        link_server = LinkServer(media, reader, signer)
        urls = DownloadUrls(store, signer, await link_server.start(settings.links))
        stock = Stock(database, pager, pruning.wake)
        server.add(
            media_pb2_grpc.add_MediaServiceServicer_to_server,
            MediaService(
                media, reader, urls, Uploads(ingest), FetchRequests(ingest), stock, migrations, scans, grace
            ),
        )
        supervisor.start("media-workers", processor.run())
        ingest.start()
        supervisor.start("audit log", audit.run())
        supervisor.start("log levels", follow_log_levels(etcd, settings.cluster.name, "media"))
        supervisor.start("database watch", watch(database.pool))
        supervisor.start("usage", used.run())
        supervisor.start("sweeper", sweeper.run())
        supervisor.start("pruning", pruning.run())
        supervisor.start("current-store", storage.keep_reading())
        supervisor.start("migrations-of-storage", migrations.run())
        supervisor.start("scans-of-storage", scans.run())
        server.readiness.need("Postgres", lambda: unready(database.pool))
        server.readiness.need("the object store", store.unready)
        await server.readiness.look()
        supervisor.start("readiness", server.readiness.run())
        await server.start()
        tls = bool(settings.server.tls_certificate)
        instance = ServiceInfo(
            id=str(ids.new_uuid()),
            address=server.address,
            tls=tls,
            version=service_version(),
            metrics=server.metrics_address,
        )
        registration = await register(etcd, settings.cluster.name, "media", instance, supervisor=supervisor)

        await stop.wait()
        await registration.stop()
        await server.drain()
        await server.stop()
        await audit.close()
        await used.write()
        await link_server.stop()
        await entry.close()
    await etcd.close()
    await database.close()


def _processing_limits(settings: MediaSettings) -> ProcessingLimits:
    return ProcessingLimits(
        max_pixels=settings.max_pixels,
        side=settings.image_side,
        quality=settings.image_quality,
        pictures=settings.image_workers,
        films=settings.film_workers,
        folder=settings.spool,
    )


def _ingest_limits(settings: MediaSettings) -> IngestLimits:
    return IngestLimits(
        max_bytes=settings.max_bytes,
        lifetime=timedelta(seconds=settings.upload_seconds),
        grace=timedelta(seconds=settings.delete_grace_seconds),
        folder=SpoolFolder(settings.spool, settings.spool_bytes),
        workers=settings.image_workers + settings.film_workers,
        fetches=settings.fetches,
    )


if __name__ == "__main__":
    run("sessionmesh-media", MediaServiceSettings, main)
