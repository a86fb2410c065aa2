"""A real media service in the test's own loop, on a database and a store of its own."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pyvips
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_core.rpc.auth import Role, new_api_key
from mesh_core.rpc.channels import Metadata, mesh_metadata, open_channel
from mesh_core.settings import read
from mesh_media.__main__ import main
from mesh_media.settings import MediaServiceSettings
from sessionmesh.v1 import media_pb2, media_pb2_grpc
from tests.support.eventually import eventually
from tests.support.running import running

ADMIN_KEY, MESH_KEY = "admin-key-of-the-test", "mesh-key-of-the-tests"
ADMIN: Metadata = (("authorization", f"Bearer {ADMIN_KEY}"),)
CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class MediaWorld:
    """A running service, its database and its store. Tests share it and make tenants of their own."""

    media: media_pb2_grpc.MediaServiceAsyncStub
    database: asyncpg.Connection
    folder: Path | None
    """Of a store that is a directory."""

    async def tenant(self) -> MediaTenant:
        """A new tenant."""
        tenant = ids.new_uuid()
        await self.database.execute("INSERT INTO tenant (id) VALUES ($1)", tenant)
        return MediaTenant(self, tenant)


@dataclass(frozen=True, slots=True)
class MediaTenant:
    """What a test does for a tenant, and what it looks behind the service with."""

    world: MediaWorld
    uuid: UUID

    @property
    def media(self) -> media_pb2_grpc.MediaServiceAsyncStub:
        return self.world.media

    @property
    def database(self) -> asyncpg.Connection:
        return self.world.database

    @property
    def id(self) -> str:
        return ids.encode(Prefix.TENANT, self.uuid)

    @property
    def metadata(self) -> Metadata:
        """Acts for the tenant only, as one of its own keys would."""
        return mesh_metadata(MESH_KEY, self.uuid)

    @property
    def folder(self) -> Path:
        """Of the tenant's objects, in a store that is a directory."""
        assert self.world.folder is not None
        return self.world.folder / self.uuid.hex

    def object_count(self) -> int:
        return sum(1 for path in self.folder.rglob("*") if path.is_file())

    async def object_count_settles(self, count: int) -> bool:
        """Waits until the tenant's objects are so many."""
        await eventually(lambda: self.object_count() == count, what=f"{count} objects")
        return True

    async def reserved_settles(self, size: int) -> bool:
        """Waits until so many bytes are promised to uploads."""

        async def settled() -> bool:
            reserved = "SELECT coalesce(sum(size), 0) FROM media_loose_object WHERE tenant = $1 AND uploading"
            return bool(await self.database.fetchval(reserved, self.uuid) == size)

        await eventually(settled, what=f"{size} reserved bytes")
        return True

    def header(self, data: bytes, account_id: str = "", **options: Any) -> media_pb2.UploadHeader:
        return media_pb2.UploadHeader(
            request_id=uuid.uuid4().hex,
            tenant_id=self.id,
            account_id=account_id,
            size_bytes=len(data),
            options=media_pb2.StorageOptions(**options),
        )

    async def account(self) -> str:
        """A new account of the tenant."""
        account = ids.new_uuid()
        await self.database.execute(
            "INSERT INTO account (id, tenant, shard, driver, phone, desired_state)"
            " VALUES ($1, $2, 0, 'memory', '', 2)",
            account,
            self.uuid,
        )
        return ids.encode(Prefix.ACCOUNT, account)

    async def key_for(self, *account_ids: str) -> Metadata:
        """A new key that is limited to these accounts."""
        key_id, key, digest = new_api_key()
        await self.database.execute(
            "INSERT INTO api_key (id, tenant, hash, scopes, role, account_ids)"
            " VALUES ($1, $2, $3, $4, $5, $6)",
            key_id,
            self.uuid,
            digest,
            ["READ", "SEND", "MANAGE"],
            int(Role.TENANT),
            [ids.decode(Prefix.ACCOUNT, name, "account_ids") for name in account_ids],
        )
        return (("authorization", f"Bearer {key}"),)

    async def upload(
        self, data: bytes, header: media_pb2.UploadHeader | None = None, metadata: Metadata = ADMIN
    ) -> media_pb2.Media:
        frames = upload_frames(header or self.header(data), data)
        return (await self.media.UploadMedia(frames, metadata=metadata, timeout=60)).media

    async def download(self, media_id: str, offset: int = 0, limit: int | None = None) -> bytes:
        request = media_pb2.DownloadMediaRequest(media_id=media_id, offset_bytes=offset, limit_bytes=limit)
        frames = await self.frames(request)
        assert frames[0].header.media.id == media_id
        return b"".join(frame.chunk for frame in frames[1:])

    async def frames(
        self, request: media_pb2.DownloadMediaRequest, metadata: Metadata = ADMIN
    ) -> list[media_pb2.DownloadMediaResponse]:
        """All frames of a download."""
        return [frame async for frame in self.media.DownloadMedia(request, metadata=metadata, timeout=60)]

    async def media_count(self) -> int:
        """How many media rows the tenant has."""
        count: int = await self.database.fetchval("SELECT count(*) FROM media WHERE tenant = $1", self.uuid)
        return count


def upload_frames(
    header: media_pb2.UploadHeader, data: bytes, chunk: int = CHUNK
) -> Iterator[media_pb2.UploadMediaRequest]:
    """The frames of an upload."""
    yield media_pb2.UploadMediaRequest(header=header)
    for at in range(0, len(data), chunk):
        yield media_pb2.UploadMediaRequest(chunk=data[at : at + chunk])


@asynccontextmanager
async def media_world(
    postgres_url: str, etcd: str, objects: dict[str, str], **settings: str
) -> AsyncIterator[MediaWorld]:
    """The service runs until the block ends, then drains."""
    environment = {
        "MESH_SERVER_LISTEN": "127.0.0.1:0",
        "MESH_DATABASE_URL": postgres_url,
        "MESH_ETCD_ENDPOINTS": etcd,
        "MESH_CLUSTER_NAME": f"test-{uuid.uuid4().hex[:12]}",
        "MESH_AUTH_BOOTSTRAP_KEY": ADMIN_KEY,
        "MESH_AUTH_MESH_KEY": MESH_KEY,
        "MESH_SECRETS_MASTER_KEY": base64.b64encode(bytes(32)).decode(),
        "MESH_MEDIA_DELETE_GRACE_SECONDS": "0",
        "MESH_MEDIA_SWEEP_SECONDS": "0.05",
        **objects,
        **settings,
    }
    url = urlsplit(objects["MESH_OBJECTS_URL"])
    folder = Path(url.path) if url.scheme == "file" else None
    async with running("media", main, read(MediaServiceSettings, environment)) as service:
        database = await asyncpg.connect(postgres_url)
        channel = open_channel(service.address)
        try:
            yield MediaWorld(media_pb2_grpc.MediaServiceStub(channel), database, folder)
        finally:
            await channel.close()
            await database.close()


@cache
def photograph(width: int, quality: int = 92) -> bytes:
    """A real photograph as a JPEG, `width` pixels wide."""
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
