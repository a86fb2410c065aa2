"""The media service: `python -m mesh_media`."""

from __future__ import annotations

import base64

from mesh_core import ids
from mesh_core.database import Database
from mesh_core.database.migrations import check_schema
from mesh_core.etcd import Etcd
from mesh_core.etcd.discovery import ServiceInfo, register
from mesh_core.objects import open_store
from mesh_core.paging import Pager
from mesh_core.process.service import Stop, run
from mesh_core.rpc.auth import KeyAuthenticator, api_key_lookup
from mesh_core.rpc.server import Server
from mesh_core.tasks import Supervisor
from mesh_media.catalogue import Catalogue
from mesh_media.compressor import Compressor
from mesh_media.media_service import MediaService
from mesh_media.settings import Settings
from mesh_media.sweep import Sweep
from mesh_media.uploads import Uploads
from sessionmesh.v1 import media_pb2_grpc

OLDEST_SCHEMA = 4
"""The oldest schema that this service works with."""


async def main(settings: Settings, stop: Stop) -> None:
    """Parts, serve, wait for a signal, drain, stop."""
    database = await Database.open(settings.database)
    await check_schema(database, OLDEST_SCHEMA)
    etcd = Etcd(settings.etcd)
    store = await open_store(settings.objects)
    compressor = Compressor(settings.media)
    catalogue = Catalogue(database)
    uploads = Uploads(settings.media, catalogue, store, compressor)
    pager = Pager(base64.b64decode(settings.secrets.master_key))
    server = Server(settings.server, authenticator=KeyAuthenticator(api_key_lookup(database), settings.auth))
    server.add(
        media_pb2_grpc.add_MediaServiceServicer_to_server,
        MediaService(settings.media, catalogue, store, uploads, pager),
    )

    async with Supervisor(stop.fail) as supervisor:
        supervisor.start("sweep", Sweep(settings.media, catalogue, store).run())
        await server.start()
        tls = bool(settings.server.tls_certificate)
        instance = ServiceInfo(id=str(ids.new_uuid()), address=server.address, tls=tls)
        registration = await register(etcd, settings.cluster.name, "media", instance, supervisor=supervisor)

        await stop.wait()
        await registration.stop()
        await server.drain()
        await server.stop()
    compressor.close()
    await etcd.close()
    await database.close()


if __name__ == "__main__":
    run("sessionmesh-media", Settings, main)
