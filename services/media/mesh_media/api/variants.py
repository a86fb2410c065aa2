"""Which bytes of a media are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from mesh_core import ids
from mesh_core.errors import FailedPrecondition, NotFound
from mesh_core.ids import Prefix
from mesh_core.validation import choice
from mesh_media.processing.name_endings import ending_of, type_of_name
from mesh_media.repository.rows import MediaRow
from sessionmesh.v1 import media_pb2

VARIANTS = media_pb2.MediaVariant.values()
Variant: TypeAlias = media_pb2.MediaVariant.ValueType


@dataclass(frozen=True, slots=True)
class VariantFile:
    """The bytes of one variant, which the store has as `key`."""

    key: str
    mime_type: str
    size: int
    sha256: bytes


def check_variant(variant: Variant) -> None:
    """Raises `InvalidField` for a number that is no variant."""
    choice("variant", variant, VARIANTS, "the variants")


def name_of(row: MediaRow, file: VariantFile) -> str:
    """What the file is called where it is stored after a download: as it came, but with the ending of what it
    was made; by its id where it came without a name.
    """
    ending = ending_of(file.mime_type)
    if not row.file_name:
        return ids.encode(Prefix.MEDIA, row.id) + ending
    if file.sha256 == row.original_sha256 or type_of_name(row.file_name) == file.mime_type:
        return row.file_name
    return (row.file_name.rpartition(".")[0] or row.file_name) + ending


def file_of(row: MediaRow, variant: Variant) -> VariantFile:
    """A media's variant. Raises `FailedPrecondition` MEDIA_NOT_READY, and `NotFound` when there is none."""
    media_id = ids.encode(Prefix.MEDIA, row.id)
    if not row.is_ready:
        raise FailedPrecondition(f"media {media_id} is not ready", "MEDIA_NOT_READY")
    if variant == media_pb2.MEDIA_VARIANT_THUMBNAIL:
        if row.thumbnail is None:
            raise NotFound("thumbnail of media", media_id)
        return VariantFile(row.thumbnail.key, "image/jpeg", row.thumbnail.size, row.thumbnail.sha256)
    if variant == media_pb2.MEDIA_VARIANT_ORIGINAL and row.sha256 != row.original_sha256:
        if row.original is None:
            raise NotFound("original of media", media_id)
        mime_type = row.declared_mime_type or row.mime_type
        return VariantFile(row.original.key, mime_type, row.original.size, row.original.sha256)
    return VariantFile(row.key, row.mime_type, row.size, row.sha256)
