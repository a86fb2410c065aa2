"""Checks of an upload's header."""

from __future__ import annotations

from datetime import timedelta

from mesh_core import validation
from mesh_core.errors import InvalidField
from mesh_core.rpc.auth import Identity, Role
from sessionmesh.v1 import media_pb2

MAX_FILE_NAME = 255
MAX_LABELS = 16
LONGEST_KEPT = timedelta(days=3650)


def check_header(header: media_pb2.UploadHeader, identity: Identity, max_bytes: int) -> None:
    """Raise `InvalidField` for the first field that is wrong."""
    validation.request_id(header.request_id, "header.request_id")
    if not 1 <= header.size <= max_bytes:
        raise InvalidField("header.size", f"must be between 1 and {max_bytes}")
    if header.sha256 and len(header.sha256) != 32:
        raise InvalidField("header.sha256", "must be 32 bytes")
    validation.text("header.file_name", header.file_name, MAX_FILE_NAME)
    if "/" in header.file_name or "\\" in header.file_name or header.file_name in (".", ".."):
        raise InvalidField("header.file_name", "must be a name without a path")
    validation.labels("header.labels", header.labels, MAX_LABELS)
    if header.HasField("keep_for"):
        validation.duration("header.keep_for", header.keep_for, least=timedelta(seconds=1), most=LONGEST_KEPT)
    if header.origin == media_pb2.MEDIA_ORIGIN_NETWORK and identity.role is not Role.MESH:
        raise InvalidField("header.origin", "only the mesh itself may say NETWORK")
