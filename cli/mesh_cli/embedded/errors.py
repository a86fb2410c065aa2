"""What can go wrong with an embedded server."""

from __future__ import annotations

from pathlib import Path

from mesh_cli.embedded.lock import Holder
from mesh_core.errors import FailedPrecondition, Unavailable

LOG_TAIL_LINES = 15


class StateInUse(FailedPrecondition):
    """Another process that is alive has the state directory; the message names it, if that is known."""

    def __init__(self, directory: Path, holder: Holder | None = None) -> None:
        message = f"{directory} is in use by another running mesh"
        if holder is not None:
            message += f": process {holder.pid}, since {holder.since}"
        super().__init__(message, "RESOURCE_EXISTS")
        self.directory = directory


class ServerFailed(Unavailable):
    """A child process did not start; the message ends with the last lines of its log."""

    def __init__(self, server: str, problem: str, log: Path | None = None) -> None:
        message = f"{server} {problem}"
        if log is not None:
            message += f"; the end of {log}:\n{_tail(log)}"
        super().__init__(message, "BACKEND_UNAVAILABLE")
        self.server = server


class ServerEnded(ServerFailed):
    """The process ended by itself before it served."""


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
