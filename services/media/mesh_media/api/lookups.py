"""LookupMedia: whether the tenant has bytes already."""

from __future__ import annotations

from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import InvalidField, NotFound
from mesh_core.rpc.auth import Identity
from mesh_media.repository.media_repository import MediaRepository
from mesh_media.repository.rows import MediaRow
from sessionmesh.v1 import media_pb2


class Lookups:
    """Finds media by the hash of their bytes."""

    def __init__(self, media: MediaRepository) -> None:
        self._media = media

    async def find(self, request: media_pb2.LookupMediaRequest, identity: Identity) -> MediaRow:
        """The newest READY media with these bytes that the caller may know of. Raises `NotFound`."""
        tenant = UUID(identity.tenant_for(request.tenant_id).bytes)
        if len(request.sha256) != 32:
            raise InvalidField("sha256", "must be 32 bytes")
        row = await self._media.look_up(tenant, request.sha256, identity.account_uuids)
        if row is None:
            raise NotFound("media with sha256", request.sha256.hex())
        return row
