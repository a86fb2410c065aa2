"""What is counted of files as they come.

`kind` is image, video, audio or document, whatever else a type is; `origin` is how the file came.
"""

from __future__ import annotations

from prometheus_client import Counter

from mesh_media.repository.rows import MediaRow
from sessionmesh.v1 import media_pb2

_LABELS = ["kind", "origin"]
UPLOADS = Counter("mesh_media_uploads", "Files taken in.", _LABELS)
UPLOADED_BYTES = Counter("mesh_media_uploaded_bytes", "Bytes as they came.", _LABELS)
STORED_BYTES = Counter(
    "mesh_media_stored_bytes", "Bytes after recompressing, shared objects included.", _LABELS
)
SAVED_BYTES = Counter("mesh_media_saved_bytes", "Bytes that processing at once saved.", _LABELS)
KNOWN_FILES = Counter("mesh_media_known_files", "Files that the tenant had already, processed alike.")
FAILURES = Counter("mesh_media_failures", "Accepted media that were lost after all, by reason.", ["failure"])


def count_file(came_bytes: int, row: MediaRow) -> None:
    """A file of so many bytes was taken in as this media."""
    kind = row.mime_type.partition("/")[0]
    origin = media_pb2.MediaOrigin.Name(media_pb2.MediaOrigin.ValueType(row.origin))
    labels = (
        kind if kind in ("image", "video", "audio") else "document",
        origin.removeprefix("MEDIA_ORIGIN_").lower(),
    )
    UPLOADS.labels(*labels).inc()
    UPLOADED_BYTES.labels(*labels).inc(came_bytes)
    STORED_BYTES.labels(*labels).inc(row.size)
    if row.is_ready and row.size < came_bytes:
        SAVED_BYTES.labels(*labels).inc(came_bytes - row.size)


def count_failure(failure: media_pb2.MediaFailure.ValueType, count: int = 1) -> None:
    """So many media that were accepted are FAILED now."""
    FAILURES.labels(media_pb2.MediaFailure.Name(failure).removeprefix("MEDIA_FAILURE_").lower()).inc(count)
