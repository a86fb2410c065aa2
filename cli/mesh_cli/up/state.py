"""The state directory of one mesh: its secrets, and the file that says where the running mesh is."""

from __future__ import annotations

import base64
import json
import os
import secrets
import stat
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from mesh_cli.embedded.errors import StateInUse
from mesh_cli.embedded.lock import FileLock
from mesh_core.disk import naming_full_disk
from mesh_core.errors import FailedPrecondition


def default_state() -> Path:
    """`$MESH_STATE`, else `sessionmesh` under `$XDG_STATE_HOME` (`~/.local/state`)."""
    if chosen := os.environ.get("MESH_STATE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "sessionmesh"


@dataclass(frozen=True, slots=True)
class Secrets:
    """Made once for a state directory and kept in it; whoever can read them administers the mesh."""

    admin_key: str
    mesh_key: str
    master_key: str

    @classmethod
    def new(cls) -> Self:
        """Ones that nobody else has."""
        return cls(
            admin_key=f"smadmin_{secrets.token_urlsafe(32)}",
            mesh_key=f"smmesh_{secrets.token_urlsafe(32)}",
            master_key=base64.b64encode(secrets.token_bytes(32)).decode(),
        )


@dataclass(frozen=True, slots=True)
class Part:
    """One running process of the mesh, and the watchdog above it (0 for none)."""

    pid: int
    address: str
    metrics: str = ""
    watchdog_pid: int = 0


@dataclass(slots=True)
class MeshFile:
    """What `mesh.json` says while a mesh runs: where each part is, and the administrator's key."""

    address: str
    admin_key: str
    traces_url: str
    state: str
    supervisor_pid: int
    parts: dict[str, Part] = field(default_factory=dict)
    servers: dict[str, str] = field(default_factory=dict)


class StateDirectory:
    """A directory that one mesh at a time uses."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.mesh_file = self.path / "mesh.json"
        self.unfinished = self.path / "restore.unfinished"
        """There while a restore is under way, and after one that did not end."""
        self.logs = self.path / "logs"
        self._lock = FileLock(self.path / "mesh.lock")

    def take(self, *, restoring: bool = False) -> None:
        """Take the directory for ourselves.

        Raises `StateInUse`, or `FailedPrecondition` when it cannot be written, or has a restore that did not
        end (unless this one is `restoring`).
        """
        try:
            os.umask(0o077)  # for all that this process writes from now on
            self.path.mkdir(parents=True, exist_ok=True)
            _refuse_shared(self.path)
            self.path.chmod(0o700)
            self.logs.mkdir(exist_ok=True)
            taken = self._lock.take()
        except OSError as error:
            raise FailedPrecondition(
                f"{self.path} cannot be used: {error.strerror}", "BACKEND_UNAVAILABLE"
            ) from None
        if not taken:
            raise StateInUse(self.path, self._lock.holder())
        if self.unfinished.exists() and not restoring:
            self._lock.release()
            raise FailedPrecondition(
                f"a restore into {self.path} did not end: run `mesh restore` again, which begins anew, or "
                "delete the "
                "directory",
                "BACKEND_UNAVAILABLE",
            )
        self.mesh_file.unlink(missing_ok=True)

    def release(self) -> None:
        self._lock.release()

    def secrets(self) -> Secrets:
        """This directory's secrets, made on first use.

        Raises `FailedPrecondition` when the file is damaged, or missing beside a database that needs it.
        """
        place = self.path / "secrets.json"
        if place.exists():
            try:
                return Secrets(**json.loads(place.read_text()))
            except (ValueError, TypeError):
                raise FailedPrecondition(
                    f"{place} is damaged: restore it from a backup", "BACKEND_UNAVAILABLE"
                ) from None
        if (self.path / "postgres").exists():
            raise FailedPrecondition(
                f"{place} is missing, and the credentials in this directory's database cannot be opened "
                "without it: put it back, or start on another directory",
                "BACKEND_UNAVAILABLE",
            )
        made = Secrets.new()
        self.keep(made)
        return made

    def known_secrets(self) -> Secrets | None:
        """This directory's secrets, if it has some. Raises `FailedPrecondition` when the file is damaged."""
        return self.secrets() if (self.path / "secrets.json").exists() else None

    def keep(self, secrets: Secrets) -> None:
        """Have these as the directory's secrets."""
        _write_private(self.path / "secrets.json", asdict(secrets))

    def announce(self, mesh: MeshFile) -> None:
        _write_private(self.mesh_file, asdict(mesh))

    def withdraw(self) -> None:
        self.mesh_file.unlink(missing_ok=True)


def running_mesh(state: Path) -> MeshFile | None:
    """The mesh that runs on this state directory, or None."""
    try:
        found: dict[str, Any] = json.loads((state / "mesh.json").read_text())
    except (FileNotFoundError, NotADirectoryError, PermissionError):  # none, or another user's
        return None
    parts = {name: Part(**part) for name, part in found.pop("parts").items()}
    mesh = MeshFile(parts=parts, **found)
    return mesh if _alive(mesh.supervisor_pid) else None


def _refuse_shared(folder: Path) -> None:
    """Such as /tmp, which others need and may put files into."""
    if folder.stat().st_mode & (stat.S_ISVTX | stat.S_IWOTH):
        raise FailedPrecondition(
            f"{folder} is a folder that all users write to: choose one below it", "BACKEND_UNAVAILABLE"
        )


def _alive(pid: int) -> bool:
    """A mesh that was killed leaves its file behind."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write_private(place: Path, content: dict[str, Any]) -> None:
    """Replace `place` in one step, readable by its owner only. Raises `DiskFull`."""
    new = place.with_suffix(".new")
    with naming_full_disk(place.parent):
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(descriptor)  # else a power loss may leave the new name with nothing in it
        new.replace(place)
