"""A media service over real servers and a directory, and who uploads to it."""

from __future__ import annotations

import base64
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from bench.measuring.workers import Worker, worker
from bench.media.served import Lag, Servers, Start
from mesh_cli.embedded import EmbeddedEtcd, EmbeddedPostgres
from mesh_core import ids
from mesh_core.database.migrations import migrate
from mesh_core.ids import Prefix
from mesh_core.rpc.channels import open_channel
from sessionmesh.v1 import media_pb2, media_pb2_grpc
from tests.support.media_world import ADMIN, ADMIN_KEY, MESH_KEY, upload_frames

_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class MediaService:
    """The service and its process."""

    media: media_pb2_grpc.MediaServiceAsyncStub
    process: Worker
    database: asyncpg.Connection

    async def tenant(self) -> str:
        """A new tenant's id."""
        tenant = ids.new_uuid()
        await self.database.execute("INSERT INTO tenant (id) VALUES ($1)", tenant)
        return ids.encode(Prefix.TENANT, tenant)

    async def upload(self, tenant: str, data: bytes, mime_type: str = "") -> media_pb2.Media:
        """Uploads a file. Raises `grpc.aio.AioRpcError` when it is refused."""
        header = media_pb2.UploadHeader(
            request_id=uuid.uuid4().hex,
            tenant_id=tenant,
            size_bytes=len(data),
            options=media_pb2.StorageOptions(mime_type=mime_type),
        )
        frames = upload_frames(header, data, _CHUNK)
        return (await self.media.UploadMedia(frames, metadata=ADMIN, timeout=300)).media

    async def lag(self) -> list[float]:
        """How late its event loop was since the last time, in milliseconds, tick by tick."""
        return await self.process.ask(Lag(), list[float])


@asynccontextmanager
async def media_service(**settings: str) -> AsyncIterator[MediaService]:
    """Runs with these settings until the block ends."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        postgres, etcd = EmbeddedPostgres(folder), EmbeddedEtcd(folder)
        for server in (postgres, etcd):
            await server.start()
            stack.push_async_callback(server.stop)
        await migrate(postgres.url)
        environment = {
            "MESH_SERVER_LISTEN": "127.0.0.1:0",
            "MESH_DATABASE_URL": postgres.url,
            "MESH_ETCD_ENDPOINTS": etcd.url,
            "MESH_AUTH_BOOTSTRAP_KEY": ADMIN_KEY,
            "MESH_AUTH_MESH_KEY": MESH_KEY,
            "MESH_SECRETS_MASTER_KEY": base64.b64encode(bytes(32)).decode(),
            "MESH_OBJECTS_URL": (folder / "objects").as_uri(),
            **settings,
        }
        process = await stack.enter_async_context(worker("bench.media.served", Servers(environment)))
        channel = open_channel(await process.ask(Start(), str))
        stack.push_async_callback(channel.close)
        database = await asyncpg.connect(postgres.url)
        stack.push_async_callback(database.close)
        yield MediaService(media_pb2_grpc.MediaServiceStub(channel), process, database)
