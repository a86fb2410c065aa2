"""What is written of each backup, beside it. It is written last: without it there is no backup."""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256

import msgspec

from mesh_cli.backup import Damaged, Refused

FORMAT = 1


class StoredFile(msgspec.Struct, frozen=True):
    """A file as it is stored, encrypted: its key in the repository, bytes, and hash."""

    name: str
    size: int
    sha256: str


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """A whole backup. It has everything that was committed until `begin_time`, and can be brought to any
    later time than `end_time` with the log from `wal_from` on. Nothing of it is secret.
    """

    id: str
    begin_time: datetime
    end_time: datetime
    mesh_version: str
    schema_version: int
    server_version: str
    system_identifier: int
    generation: int
    database: str
    role: str
    database_bytes: int
    master_keys: tuple[str, ...]
    """Which master keys wrap the tenants' data keys."""
    recipient: str
    wal_from: str
    """The first segment of the log that is needed."""
    base: StoredFile
    objects: StoredFile
    """The list of objects: a line each of name, size and hash, as it is stored."""
    object_count: int
    object_bytes: int
    format: int = FORMAT
    digest: str = ""
    """Of all the rest."""

    @property
    def server_major(self) -> int:
        return int(self.server_version.partition(".")[0])


def encoded(backup: Backup) -> bytes:
    """A record as it is stored."""
    digest = sha256(msgspec.json.encode(msgspec.structs.replace(backup, digest=""))).hexdigest()
    return msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(backup, digest=digest)), indent=2)


def decoded(stored: bytes, name: str) -> Backup:
    """Raises `Damaged`, and `Refused` for one that a newer release has made."""
    try:
        made_by = msgspec.json.decode(stored, type=_Head)
        if made_by.format > FORMAT:
            raise Refused(
                f"{name} was made by Sessionmesh {made_by.mesh_version}, in a form that this release does "
                "not know: use that release, or a newer one"
            )
        backup = msgspec.json.decode(stored, type=Backup)
    except msgspec.DecodeError:
        raise Damaged(f"{name} is damaged") from None
    if encoded(backup) != stored:
        raise Damaged(f"{name} is damaged")
    return backup


class _Head(msgspec.Struct):
    format: int
    mesh_version: str
