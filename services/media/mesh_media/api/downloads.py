"""DownloadMedia: a header, then the bytes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from mesh_core.errors import InvalidField
from mesh_core.telemetry import tracing
from mesh_core.validation import at_least
from mesh_media.api.reader import Reader
from mesh_media.api.variants import check_variant, file_of
from mesh_media.repository.resource import media_message
from mesh_media.repository.rows import MediaRow
from sessionmesh.v1 import media_pb2

MOST_DOWNLOADS = 64
"""Downloads of a tenant that a process serves at once, those of the mesh itself apart. Each holds a
descriptor, and some 2 MB while its caller does not read.
"""
RETRY_SECONDS = 1.0
READ_SECONDS = 30.0
"""How long a download waits for its caller to take a frame."""


def check_download(request: media_pb2.DownloadMediaRequest) -> None:
    """Raises `InvalidField` for what is wrong whatever the file."""
    known = request.if_none_match_sha256
    if known and len(known) != 32:
        raise InvalidField("if_none_match_sha256", "must be 32 bytes")
    check_variant(request.variant)
    at_least("offset_bytes", request.offset_bytes, 0)
    at_least("limit_bytes", request.limit_bytes, 0)


async def download_frames(
    reader: Reader, row: MediaRow, request: media_pb2.DownloadMediaRequest
) -> AsyncGenerator[media_pb2.DownloadMediaResponse, None]:
    """The frames of a download of a media that the caller may see, of a checked request.

    Raises `InvalidField` for an offset behind the end, and as `file_of` and `Reader.read`.
    """
    file = file_of(row, request.variant)
    start, end = request.offset_bytes, file.size
    if start > file.size:
        raise InvalidField("offset_bytes", f"must be between 0 and the file's size, {file.size}")
    if request.HasField("limit_bytes"):
        end = min(file.size, start + request.limit_bytes)
    header = media_pb2.DownloadHeader(
        media=media_message(row),
        mime_type=file.mime_type,
        size_bytes=file.size,
        sha256=file.sha256,
        not_modified=request.if_none_match_sha256 == file.sha256,
    )
    with tracing.span("mesh.media.download", attributes={"mesh.media.size": end - start}):
        yield media_pb2.DownloadMediaResponse(header=header)
        if header.not_modified or start == end:
            return
        async with aclosing(reader.read(row, request.variant, start, end)) as chunks:
            async for chunk in chunks:
                yield media_pb2.DownloadMediaResponse(chunk=chunk)
