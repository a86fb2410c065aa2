"""Etags of what is the network's, and has no number of a version: of its content."""

from __future__ import annotations

from hashlib import blake2b

from google.protobuf.message import Message

from mesh_core.errors import Aborted


def etag_of(resource: Message) -> str:
    """The etag of a message, which has a field for it: the same content has the same."""
    bare = type(resource)()
    bare.CopyFrom(resource)
    bare.ClearField("etag")
    return blake2b(bare.SerializeToString(deterministic=True), digest_size=12).hexdigest()


def check_etag(given: str, present: str) -> None:
    """Raises `Aborted` ETAG_MISMATCH unless `given` is empty, or the present one."""
    if given and given != present:
        raise Aborted("the etag is not the present one: read the resource again", "ETAG_MISMATCH")
