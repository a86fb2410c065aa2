"""A real media service in the test's own loop, on a fresh database and a store of its own."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import asyncpg
import grpc.aio
import pyvips
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_core.process.service import Stop
from mesh_core.rpc.channels import Metadata, mesh_metadata, open_channel
from mesh_core.settings import read
from mesh_media.__main__ import main
from mesh_media.settings import MediaServiceSettings
from sessionmesh.v1 import media_pb2, media_pb2_grpc

ADMIN_KEY, MESH_KEY = "admin-key-of-the-test", "mesh-key-of-the-tests"
ADMIN: Metadata = (("authorization", f"Bearer {ADMIN_KEY}"),)
CHUNK = 64 * 1024


@dataclass(slots=True)
class MediaWorld:
    """Stubs and what a test looks behind them with."""

    media: media_pb2_grpc.MediaServiceAsyncStub
    database: asyncpg.Connection
    tenant: UUID

    @property
    def tenant_id(self) -> str:
        return ids.encode(Prefix.TENANT, self.tenant)

    @property
    def as_tenant(self) -> Metadata:
        """Acts for the tenant only, as one of its own keys would."""
        return mesh_metadata(MESH_KEY, self.tenant)

    def header(self, data: bytes, **fields: object) -> media_pb2.UploadHeader:
        header = media_pb2.UploadHeader(request_id=uuid.uuid4().hex, tenant_id=self.tenant_id, size=len(data))
        header.MergeFrom(media_pb2.UploadHeader(**fields))  # type: ignore[arg-type] # fields of any type
        return header

    async def upload(self, data: bytes, header: media_pb2.UploadHeader | None = None) -> media_pb2.Media:
        frames = upload_frames(header or self.header(data), data)
        return (await self.media.UploadMedia(frames, metadata=ADMIN, timeout=60)).media

    async def download(self, media_id: str, offset: int = 0, limit: int = 0) -> bytes:
        request = media_pb2.DownloadMediaRequest(media_id=media_id, offset=offset, limit=limit)
        frames = [frame async for frame in self.media.DownloadMedia(request, metadata=ADMIN, timeout=60)]
        assert frames[0].media.id == media_id
        return b"".join(frame.chunk for frame in frames[1:])

    async def new_tenant(self) -> UUID:
        tenant = ids.new_uuid()
        await self.database.execute("INSERT INTO tenant (id) VALUES ($1)", tenant)
        return tenant


def upload_frames(
    header: media_pb2.UploadHeader, data: bytes, chunk: int = CHUNK
) -> Iterator[media_pb2.UploadMediaRequest]:
    """The frames of an upload."""
    yield media_pb2.UploadMediaRequest(header=header)
    for at in range(0, len(data), chunk):
        yield media_pb2.UploadMediaRequest(chunk=data[at : at + chunk])


@asynccontextmanager
async def media_world(
    postgres_url: str, etcd: str, cluster: str, objects: dict[str, str], **settings: str
) -> AsyncIterator[MediaWorld]:
    """The service runs until the block ends, then drains."""
    address = f"127.0.0.1:{_free_port()}"
    environment = {
        "MESH_SERVER_LISTEN": address,
        "MESH_DATABASE_URL": postgres_url,
        "MESH_ETCD_ENDPOINTS": etcd,
        "MESH_CLUSTER_NAME": cluster,
        "MESH_AUTH_BOOTSTRAP_KEY": ADMIN_KEY,
        "MESH_AUTH_MESH_KEY": MESH_KEY,
        "MESH_SECRETS_MASTER_KEY": base64.b64encode(bytes(32)).decode(),
        "MESH_MEDIA_DELETE_GRACE_SECONDS": "0",
        "MESH_MEDIA_SWEEP_SECONDS": "0.05",
        **objects,
        **settings,
    }
    stop = Stop()
    running = asyncio.create_task(main(read(MediaServiceSettings, environment), stop), name="media")
    database = await asyncpg.connect(postgres_url)
    channel = open_channel(address)
    try:
        await _ready(channel, running)
        world = MediaWorld(media_pb2_grpc.MediaServiceStub(channel), database, ids.new_uuid())
        await database.execute("INSERT INTO tenant (id) VALUES ($1)", world.tenant)
        yield world
    finally:
        await channel.close()
        await database.close()
        stop.ask("test over")
        await running


async def _ready(channel: grpc.aio.Channel, running: asyncio.Task[None]) -> None:
    ready = asyncio.create_task(channel.channel_ready())
    await asyncio.wait({ready, running}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def photograph(width: int = 4000, quality: int = 92) -> bytes:
    """A real photograph, as large as a phone makes it."""
    package = find_spec("matplotlib")
    assert package is not None
    assert package.submodule_search_locations
    source = Path(package.submodule_search_locations[0]) / "mpl-data" / "sample_data" / "grace_hopper.jpg"
    picture = pyvips.Image.new_from_file(str(source))
    enlarged = picture.resize(width / picture.width, kernel="cubic")
    data: bytes = enlarged.jpegsave_buffer(Q=quality)
    return data


def sha256(*parts: Iterable[int] | bytes) -> bytes:
    return hashlib.sha256(b"".join(bytes(part) for part in parts)).digest()
