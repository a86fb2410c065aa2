"""What the router's own services do alike with a request: digests, etags."""

from __future__ import annotations

from asyncpg.pgproto.pgproto import UUID
from google.protobuf.message import Message

from mesh_core.database.requests import payload_digest
from mesh_core.errors import Aborted

NO_TENANT = UUID(bytes(16))
"""The scope of request ids that belong to no tenant: the operator's."""


def digest_of(request: Message) -> bytes:
    """What tells this request from another one with the same request id."""
    payload = type(request)()
    payload.CopyFrom(request)
    payload.ClearField("request_id")
    return payload_digest(payload.SerializeToString(deterministic=True))


def check_etag(given: str, version: int) -> None:
    """Raise `Aborted` ETAG_MISMATCH when an etag is given that is not the present one."""
    if given and given != etag(version):
        raise Aborted("the etag is not the present one: read the resource again", "ETAG_MISMATCH")


def etag(version: int) -> str:
    """The etag of a row's version."""
    return f"v{version}"
