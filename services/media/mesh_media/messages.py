"""Rows as protos."""

from __future__ import annotations

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_core.validation import to_timestamp
from mesh_media.catalogue import MediaRow
from sessionmesh.v1 import content_pb2, media_pb2


def media_message(row: MediaRow) -> media_pb2.Media:
    """A row of media; every row is READY, since it is made after its bytes are stored."""
    return media_pb2.Media(
        id=ids.encode(Prefix.MEDIA, row.id),
        tenant_id=ids.encode(Prefix.TENANT, row.tenant),
        state=content_pb2.MEDIA_STATE_READY,
        mime_type=row.mime_type,
        size=row.size,
        sha256=row.sha256,
        original_size=row.original_size,
        original_sha256=row.original_sha256,
        file_name=row.file_name,
        width=row.width,
        height=row.height,
        origin=media_pb2.MediaOrigin.ValueType(row.origin),
        labels=row.labels,
        create_time=to_timestamp(row.create_time),
        expire_time=to_timestamp(row.expire_time) if row.expire_time else None,
    )
