"""What is counted of files as they come.

`kind` is image, video, audio or document, whatever else a type is; `origin` is how the file came.
"""

from __future__ import annotations

from mesh_core.metrics import counter, counters
from mesh_core.usage.counts import used_by
from mesh_media.repository.rows import MediaRow
from sessionmesh.v1 import media_pb2


def _origin_name(origin: int) -> str:
    name = media_pb2.MediaOrigin.Name(media_pb2.MediaOrigin.ValueType(origin))
    return name.removeprefix("MEDIA_ORIGIN_").lower()


def _failure_name(failure: media_pb2.MediaFailure.ValueType) -> str:
    return media_pb2.MediaFailure.Name(failure).removeprefix("MEDIA_FAILURE_").lower()


_LABELS = {
    "kind": ("image", "video", "audio", "document"),
    "origin": tuple(map(_origin_name, media_pb2.MediaOrigin.values())),
}
UPLOADS = counters(
    "mesh_media_uploads_total", "Files taken in.", answers="How many files come, and from where?", **_LABELS
)
UPLOADED_BYTES = counters(
    "mesh_media_uploaded_bytes_total", "Bytes as they came.", answers="How much comes in?", **_LABELS
)
STORED_BYTES = counters(
    "mesh_media_stored_bytes_total",
    "Bytes after recompressing, shared objects included.",
    answers="How fast does the store fill?",
    **_LABELS,
)
SAVED_BYTES = counters(
    "mesh_media_saved_bytes_total",
    "Bytes that processing at once saved.",
    answers="What does recompressing save?",
    **_LABELS,
)
KNOWN_FILES = counter(
    "mesh_media_known_files_total",
    "Files that the tenant had already, processed alike.",
    answers="What does storing a file once save?",
)
FAILURES = counters(
    "mesh_media_failures_total",
    "Accepted media that were lost after all, by reason.",
    answers="Which files are lost, and why?",
    failure=[_failure_name(failure) for failure in media_pb2.MediaFailure.values()[1:]],
)


def count_file(came_bytes: int, row: MediaRow) -> None:
    """A file of so many bytes was taken in as this media."""
    kind = row.mime_type.partition("/")[0]
    labels = kind if kind in ("image", "video", "audio") else "document", _origin_name(row.origin)
    UPLOADS.labels(*labels).inc()
    UPLOADED_BYTES.labels(*labels).inc(came_bytes)
    used_by(row.tenant).media_uploaded_bytes += came_bytes
    STORED_BYTES.labels(*labels).inc(row.size)
    if row.is_ready and row.size < came_bytes:
        SAVED_BYTES.labels(*labels).inc(came_bytes - row.size)


def count_failure(failure: media_pb2.MediaFailure.ValueType, count: int = 1) -> None:
    """So many media that were accepted are FAILED now."""
    FAILURES.labels(_failure_name(failure)).inc(count)
