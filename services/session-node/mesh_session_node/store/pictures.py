"""Pictures of people as media of the tenant: the same bytes are one media of an account."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from hashlib import sha256

from asyncpg.pgproto.pgproto import UUID
from grpc.aio import AioRpcError

from mesh_core.errors import NotFound
from mesh_core.rpc.server.status import from_rpc_error
from mesh_session_node.store.media import MediaClient
from sessionmesh.v1 import content_pb2, media_pb2

KEPT_AS = "pictures"
"""What is kept of who has which picture, by `picture_name`."""


def picture_name(account: UUID, person: str, *, preview: bool) -> str:
    """What an account was answered about a person's picture: others may not be shown the same."""
    return f"{account.hex}/{person}/{'preview' if preview else 'image'}"


class Pictures:
    """Stores pictures. Raises what the media service refuses, and `Unavailable`."""

    def __init__(self, client: MediaClient) -> None:
        self._client = client

    async def keep(self, tenant: UUID, account_id: str, data: bytes) -> str:
        """The id of a picture that the network gave an account, stored or known from before."""
        digest = sha256(data).digest()
        try:
            known = await self._client.look_up(tenant, digest)
            if (
                known is not None
                and known.account_id == account_id
                and known.origin == media_pb2.MEDIA_ORIGIN_NETWORK
                and known.state == content_pb2.MEDIA_STATE_READY
            ):
                return known.id
            header = media_pb2.UploadHeader(
                request_id=f"picture-{secrets.token_hex(16)}",  # it is found by its bytes, not by this
                account_id=account_id,
                size_bytes=len(data),
                options=media_pb2.StorageOptions(mime_type="image/jpeg", sha256=digest),
                origin=media_pb2.MEDIA_ORIGIN_NETWORK,
            )
            return (await self._client.upload(tenant, header, _pieces(data))).id
        except AioRpcError as error:
            raise from_rpc_error(error) from None

    async def is_there(self, tenant: UUID, media_id: str) -> bool:
        """Whether a picture that was stored is still there."""
        try:
            media = await self._client.get(tenant, media_id)
        except AioRpcError as error:
            if isinstance(refused := from_rpc_error(error), NotFound):
                return False
            raise refused from None
        return media.state == content_pb2.MEDIA_STATE_READY

    async def read(self, tenant: UUID, media_id: str, most: int) -> tuple[media_pb2.Media, bytes]:
        """A file of the tenant, and its bytes: none where there are more than `most`."""
        try:
            media = await self._client.get(tenant, media_id)
            if media.state != content_pb2.MEDIA_STATE_READY or media.size_bytes > most:
                return media, b""
            data = bytearray()
            async for piece in self._client.download(tenant, media_id):
                data += piece
            return media, bytes(data)
        except AioRpcError as error:
            raise from_rpc_error(error) from None


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data
