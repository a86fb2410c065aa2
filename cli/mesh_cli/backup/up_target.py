"""Restoring into the state directory of `mesh up`."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mesh_cli.backup import Refused
from mesh_cli.backup.key_file import KeyFile
from mesh_cli.backup.records import Backup
from mesh_cli.embedded import EmbeddedS3
from mesh_cli.embedded.postgres import DATABASE, ROLE
from mesh_cli.up.state import Secrets, StateDirectory

_OWN = ("secrets.json", "etcd", "redis", "postgres", "objects", "s3")
"""What the servers of `mesh up` have there."""


class UpTarget:
    """A state directory that is empty, or has only what a restore left that did not end."""

    def __init__(self, state: Path, *, s3: bool) -> None:
        self._state = StateDirectory(state)
        self._s3 = EmbeddedS3(state) if s3 else None

    @property
    def data(self) -> Path:
        return self._state.path / "postgres" / "data"

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[dict[str, str]]:
        """The directory is ours, and no mesh starts on it before `finish`. Yields where objects go, as
        variables.

        Raises `StateInUse`, and `Refused` for a directory that has anything.
        """
        self._state.take(restoring=True)
        try:
            self._empty()
            self._state.unfinished.touch()
            yield await self._objects()
        finally:
            if self._s3 is not None:
                await self._s3.stop()
            self._state.release()

    def finish(self, secrets: Secrets, password: str) -> None:
        """From here on `mesh up` goes on with it."""
        place = self.data.parent / "password"
        place.touch(mode=0o600)
        place.write_text(password)
        self._state.keep(secrets)
        self._state.unfinished.unlink()

    def _empty(self) -> None:
        there = [name for name in _OWN if (self._state.path / name).exists()]
        if there and not self._state.unfinished.exists():
            raise Refused(
                f"{self._state.path} has a mesh already ({', '.join(there)}): restore into another state "
                "directory"
            )
        for name in there:
            shutil.rmtree(self._state.path / name)

    async def _objects(self) -> dict[str, str]:
        if os.environ.get("MESH_OBJECTS_URL"):
            return dict(os.environ)
        if self._s3 is not None:
            url = await self._s3.start()
            return {
                "MESH_OBJECTS_URL": url,
                "MESH_OBJECTS_ENDPOINT": self._s3.endpoint,
                "MESH_OBJECTS_ACCESS_KEY": self._s3.keys.access_key,
                "MESH_OBJECTS_SECRET_KEY": self._s3.keys.secret_key,
            }
        return {"MESH_OBJECTS_URL": (self._state.path / "objects").as_uri()}


def secrets_of(key: KeyFile, backup: Backup) -> Secrets:
    """Raises `Refused` for what `mesh up` cannot go on with."""
    if key.secrets is None:
        raise Refused(
            "the key file has no secrets of a mesh of `mesh up`: restore with --data DIR for a Postgres "
            "of your own"
        )
    if (backup.role, backup.database) != (ROLE, DATABASE):
        raise Refused(
            f"the backup is of a Postgres that was not started by `mesh up` (database {backup.database}): "
            "restore with --data DIR"
        )
    return key.secrets
