"""What can go wrong with an embedded server."""

from __future__ import annotations

from pathlib import Path

from mesh_core.errors import FailedPrecondition, Unavailable

LOG_TAIL_LINES = 15


class StateInUse(FailedPrecondition):
    """The state directory belongs to another process that is alive."""

    def __init__(self, directory: Path) -> None:
        super().__init__(f"{directory} is in use by another running mesh", "RESOURCE_EXISTS")
        self.directory = directory


class ServerFailed(Unavailable):
    """A child process did not start; the message ends with the last lines of its log."""

    def __init__(self, server: str, problem: str, log: Path | None = None) -> None:
        message = f"{server} {problem}"
        if log is not None:
            message += f"; the end of {log}:\n{_tail(log)}"
        super().__init__(message, "BACKEND_UNAVAILABLE")
        self.server = server


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
