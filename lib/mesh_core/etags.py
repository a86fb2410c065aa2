"""Etags: a caller that changes a resource may name the version that it read (AIP-154)."""

from __future__ import annotations

from mesh_core.errors import Aborted


def etag(version: int) -> str:
    """The etag of a row with this version number."""
    return f"v{version}"


def check_etag(given: str, version: int) -> None:
    """Raise `Aborted` ETAG_MISMATCH for an etag of another version; "" is any version's."""
    if given and given != etag(version):
        raise Aborted("the etag is not the present one: read the resource again", "ETAG_MISMATCH")
