"""What can go wrong with an embedded server."""

from __future__ import annotations

from pathlib import Path

from mesh_cli.embedded.lock import Holder
from mesh_core.errors import FailedPrecondition, Unavailable, shown

LOG_TAIL_LINES = 15
LINE_CHARACTERS = 1_000


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
        super().__init__(f"{server} {problem}", "BACKEND_UNAVAILABLE")
        if log is not None:  # for a terminal, where there is more room than in a call's answer
            self.message += f"; the end of {log}:\n{_tail(log)}"
        self.server = server


class ServerEnded(ServerFailed):
    """The process ended by itself before it served."""


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    return "\n".join(shown(line, LINE_CHARACTERS) for line in lines)
