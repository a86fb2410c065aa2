"""What the media service counts."""

from __future__ import annotations

from prometheus_client import Counter

uploads = Counter("mesh_media_uploads", "Files taken in.")
uploaded_bytes = Counter("mesh_media_uploaded_bytes", "Bytes as they came.")
stored_bytes = Counter("mesh_media_stored_bytes", "Bytes after recompressing, shared objects included.")
downloads = Counter("mesh_media_downloads", "Downloads begun.")
downloaded_bytes = Counter("mesh_media_downloaded_bytes", "Bytes sent to downloaders.")
deleted_objects = Counter("mesh_media_deleted_objects", "Objects deleted from the store.")
sweep_failures = Counter("mesh_media_sweep_failures", "Sweeps that a backing server cut short.")
