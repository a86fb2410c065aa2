"""What is said of a file before its bytes come, checked and completed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids, validation
from mesh_core.errors import InvalidField
from mesh_core.ids import Prefix
from mesh_core.rpc.auth import Identity
from mesh_media.ingest.file_names import fitting_name, given_name
from mesh_media.processing.file_types import UNKNOWN, named_type, normalised
from mesh_media.repository.rows import NewMedia
from sessionmesh.v1 import media_pb2

MAX_LABELS = 16
MAX_KEEP_FOR = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Policy:
    """A tenant's rules for files that say nothing else themselves."""

    compression: media_pb2.Compression.ValueType = media_pb2.COMPRESSION_BALANCED
    keep_original: bool = False


@dataclass(frozen=True, slots=True)
class Announcement:
    """A file to come: whose it is, how it came, and how it is stored. `options` were checked, and say all
    that the tenant's policy would.

    `declared` is the announced type without parameters, "" for none.
    """

    tenant: UUID
    account: UUID | None
    origin: media_pb2.MediaOrigin.ValueType
    options: media_pb2.StorageOptions
    declared: str
    keep_for: timedelta | None

    @property
    def foreign(self) -> bool:
        """Whether strangers have sent it: then nobody is told of what is wrong with it, and it is kept."""
        return self.origin == media_pb2.MEDIA_ORIGIN_NETWORK

    def typed_by_name(self, head: bytes) -> Announcement:
        """The same of a file that begins with `head`, announced as what its name says where nothing else says
        what it is.
        """
        said = self.options.mime_type
        name_type(self.options, head)
        named = self.options.mime_type
        return self if named == said else replace(self, declared=named)

    def media(self, size: int, sha256: bytes | None) -> NewMedia:
        """The media that it becomes, of so many bytes as they came."""
        options = self.options
        return NewMedia(
            id=ids.new_uuid(),
            tenant=self.tenant,
            account=self.account,
            declared_mime_type=self.declared,
            original_size=size,
            original_sha256=sha256,
            file_name=options.file_name,
            purpose=options.purpose,
            compression=options.compression,
            keep_original=options.keep_original,
            origin=self.origin,
            labels=dict(options.labels),
            keep_for=self.keep_for,
        )


def whose(identity: Identity, tenant_id: str, account_id: str, field: str = "") -> tuple[UUID, UUID | None]:
    """The tenant and the account that a file is for; `field` is the path of what names them."""
    tenant = UUID(identity.tenant_for(tenant_id, f"{field}tenant_id").bytes)
    account = ids.decode(Prefix.ACCOUNT, account_id, f"{field}account_id") if account_id else None
    return tenant, account


def announce(
    owner: tuple[UUID, UUID | None],
    origin: media_pb2.MediaOrigin.ValueType,
    given: media_pb2.StorageOptions,
    policy: Policy,
    field: str = "header.options",
) -> Announcement:
    """Checks what is said of a file. Of one of the network nothing is refused: what cannot be stored of it
    is left out. Raises `InvalidField` with paths below `field`.
    """
    options = media_pb2.StorageOptions()
    options.CopyFrom(given)
    if origin == media_pb2.MEDIA_ORIGIN_NETWORK:
        options.file_name = fitting_name(options.file_name)
    else:
        options.file_name = given_name(f"{field}.file_name", options.file_name)
    if origin in (media_pb2.MEDIA_ORIGIN_NETWORK, media_pb2.MEDIA_ORIGIN_INLINE):
        options.mime_type = declared = _hint(options.mime_type)
    else:
        declared = _declared(f"{field}.mime_type", options.mime_type)
    if options.sha256 and len(options.sha256) != 32:
        raise InvalidField(f"{field}.sha256", "must be 32 bytes")
    validation.labels(f"{field}.labels", options.labels, MAX_LABELS)
    validation.choice(f"{field}.purpose", options.purpose, media_pb2.MediaPurpose.values(), "the purposes")
    validation.choice(
        f"{field}.compression", options.compression, media_pb2.Compression.values(), "the levels"
    )
    keep_for = None
    if options.HasField("keep_for"):
        keep_for = validation.duration(
            f"{field}.keep_for", options.keep_for, least=timedelta(seconds=1), most=MAX_KEEP_FOR
        )
    options.compression = options.compression or policy.compression
    if not options.HasField("keep_original"):
        options.keep_original = policy.keep_original
    return Announcement(*owner, origin, options, declared, keep_for)


def name_type(options: media_pb2.StorageOptions, head: bytes) -> None:
    """Has options without a type say what the name of the file does, which begins with `head`."""
    if normalised(options.mime_type) in ("", UNKNOWN):
        options.mime_type = named_type(options.file_name, head) or options.mime_type


def _declared(field: str, mime_type: str) -> str:
    try:
        return normalised(mime_type)
    except InvalidField as error:
        raise InvalidField(field, error.description) from None


def _hint(mime_type: str) -> str:
    try:
        return normalised(mime_type)
    except InvalidField:
        return ""
