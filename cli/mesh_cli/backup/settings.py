"""What the commands about backups read of the environment, and of a mesh that runs on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from mesh_cli.backup import Refused
from mesh_cli.embedded.seaweed import EmbeddedS3, stored_keys
from mesh_cli.up.state import MeshFile
from mesh_core.settings import BadSettings, DatabaseSettings, ObjectsSettings, StoreSettings, read

S = TypeVar("S")


class BackupSettings(StoreSettings, frozen=True, kw_only=True):
    """Where backups are stored: a folder, or a bucket of their own. MESH_BACKUP_URL and so on."""

    recipient: str = ""
    """Whom they are encrypted for; public."""


class RepositorySettings(msgspec.Struct, frozen=True, kw_only=True):
    """What looking at backups needs."""

    backup: BackupSettings


class ArchiveSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What following the log needs."""

    backup: BackupSettings
    database: DatabaseSettings


class MakingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What making a backup needs."""

    backup: BackupSettings
    database: DatabaseSettings
    objects: ObjectsSettings


def settings_beside(kind: type[S], mesh: MeshFile | None) -> S:
    """Settings from the environment, and for what it does not say from the mesh that runs here. Raises
    `Refused`.
    """
    return settings_from(kind, {**(addresses_of(mesh) if mesh else {}), **os.environ})


def settings_from(kind: type[S], environment: Mapping[str, str]) -> S:
    """Raises `Refused`, which names the variable."""
    try:
        return read(kind, environment)
    except BadSettings as error:
        raise Refused(str(error)) from None


def addresses_of(mesh: MeshFile) -> dict[str, str]:
    """The servers of a mesh that runs here, as the variables that name them."""
    servers = dict(mesh.servers)
    if (
        servers.get("MESH_OBJECTS_URL", "").startswith("s3:")
        and (Path(mesh.state) / EmbeddedS3.name).is_dir()
    ):
        keys = stored_keys(Path(mesh.state) / EmbeddedS3.name)
        servers |= {"MESH_OBJECTS_ACCESS_KEY": keys.access_key, "MESH_OBJECTS_SECRET_KEY": keys.secret_key}
    return servers
