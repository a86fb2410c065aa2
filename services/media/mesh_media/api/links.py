"""Web addresses that serve a file for a while to whoever has them: the store's own, or ours if it has none.

Ours name the media, the variant and the end, and are signed with a key of the database: nobody else can make
one, and nothing is stored of them. They work in every media service of the mesh.
"""

from __future__ import annotations

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from hmac import compare_digest

from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import FailedPrecondition
from mesh_core.validation import duration, to_timestamp
from mesh_media.api.variants import Variant, file_of, name_of
from mesh_media.repository.rows import MediaRow
from mesh_media.stores.object_store import ObjectStore
from sessionmesh.v1 import media_pb2

DEFAULT_TTL = timedelta(minutes=15)
MAX_TTL = timedelta(days=7)


class WrongLink(Exception):
    """The link was not made here, or was changed."""


class EndedLink(Exception):
    """The link's time is over."""


@dataclass(frozen=True, slots=True)
class Link:
    """What a link is for."""

    media: UUID
    variant: Variant


class LinkSigner:
    """Makes and checks links. `key` is the secret that page tokens are made with, too, in another way."""

    def __init__(self, key: bytes) -> None:
        self._key = blake2b(key, digest_size=32, person=b"media-link").digest()

    def token(self, link: Link, ends: datetime) -> str:
        """The part of an address that says all; it works until `ends`."""
        said = _SAID.pack(link.media.bytes, link.variant, int(ends.timestamp()))
        return urlsafe_b64encode(said + self._mac(said)).rstrip(b"=").decode()

    def link(self, token: str, now: datetime) -> Link:
        """What a token is for. Raises `WrongLink` and `EndedLink`."""
        try:
            raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            raise WrongLink from None
        said, mac = raw[: _SAID.size], raw[_SAID.size :]
        # A token with other characters that mean the same bytes is another one.
        same = urlsafe_b64encode(raw).rstrip(b"=").decode() == token
        if not compare_digest(mac, self._mac(said)) or not same or len(said) < _SAID.size:
            raise WrongLink
        media, variant, ends = _SAID.unpack(said)
        if now.timestamp() >= ends:
            raise EndedLink
        return Link(UUID(media), media_pb2.MediaVariant.ValueType(variant))

    def _mac(self, said: bytes) -> bytes:
        return blake2b(said, digest_size=_MAC_SIZE, key=self._key).digest()


class DownloadUrls:
    """Makes addresses. `public_url` is where our own are served, "" where none are."""

    def __init__(self, store: ObjectStore, signer: LinkSigner, public_url: str) -> None:
        self._store = store
        self._signer = signer
        self._public_url = public_url

    async def create(
        self, row: MediaRow, request: media_pb2.CreateDownloadUrlRequest
    ) -> media_pb2.CreateDownloadUrlResponse:
        """Raises `InvalidField` for the ttl, `FailedPrecondition` UNSUPPORTED_BY_STORE, and as `file_of`."""
        ttl = DEFAULT_TTL
        if request.HasField("ttl"):
            ttl = duration("ttl", request.ttl, least=timedelta(seconds=1), most=MAX_TTL)
        file = file_of(row, request.variant)
        ends = datetime.now(UTC) + ttl
        thumbnail = request.variant == media_pb2.MEDIA_VARIANT_THUMBNAIL
        name = "" if thumbnail else name_of(row, file)
        stores = await self._store.download_url(file.key, ttl, name, file.mime_type)
        if stores is not None:
            url, ends = stores.url, stores.ends
        else:
            if not self._public_url:
                raise FailedPrecondition(
                    "the object store is a directory, and the media service serves no links "
                    "(MESH_LINKS_LISTEN); use DownloadMedia",
                    "UNSUPPORTED_BY_STORE",
                )
            token = self._signer.token(Link(row.id, request.variant), ends)
            url = f"{self._public_url}/media/{token}"
        return media_pb2.CreateDownloadUrlResponse(url=url, expire_time=to_timestamp(ends))


_SAID = struct.Struct(">16sBQ")
"""Media, variant, end in seconds since 1970."""
_MAC_SIZE = 16
