"""A media row as callers see it."""

from __future__ import annotations

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_core.validation import to_timestamp
from mesh_media.repository.rows import MediaRow
from sessionmesh.v1 import content_pb2, media_pb2


def media_message(row: MediaRow) -> media_pb2.Media:
    """The row as a proto."""
    media = media_pb2.Media(
        id=ids.encode(Prefix.MEDIA, row.id),
        tenant_id=ids.encode(Prefix.TENANT, row.tenant),
        account_id=account_id(row),
        state=content_pb2.MediaState.ValueType(row.state),
        failure=media_pb2.MediaFailure.ValueType(row.failure),
        unprocessed_reason=media_pb2.UnprocessedReason.ValueType(row.unprocessed),
        mime_type=row.mime_type,
        declared_mime_type=row.declared_mime_type,
        size_bytes=row.size,
        sha256=row.sha256,
        original_size_bytes=row.original_size,
        original_sha256=row.original_sha256,
        original_kept=row.original is not None,
        file_name=row.file_name,
        width=row.width,
        height=row.height,
        animated=row.animated,
        waveform=row.waveform,
        origin=media_pb2.MediaOrigin.ValueType(row.origin),
        categories=map(media_pb2.MediaCategory.ValueType, row.categories),
        labels=row.labels,
        create_time=to_timestamp(row.create_time),
        expire_time=to_timestamp(row.expire_time) if row.expire_time else None,
    )
    if row.duration_ms is not None:
        media.duration.FromMilliseconds(row.duration_ms)
    if row.thumbnail is not None:
        media.thumbnail.width, media.thumbnail.height = row.thumbnail_width or 0, row.thumbnail_height or 0
        media.thumbnail.size_bytes, media.thumbnail.preview = row.thumbnail.size, row.preview
    return media


def account_id(row: MediaRow) -> str:
    """The account that it is for, as callers name it; "" for none."""
    return "" if row.account is None else ids.encode(Prefix.ACCOUNT, row.account)
