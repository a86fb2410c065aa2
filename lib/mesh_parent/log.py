"""Log lines in the form of the services': one JSON object a line, on stderr."""

from __future__ import annotations

import json
import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Log:
    """Writes lines under a service's name."""

    def __init__(self, service: str) -> None:
        self._service = service

    def info(self, event: str, **facts: Any) -> None:
        self._write("info", event, facts)

    def error(self, event: str, **facts: Any) -> None:
        self._write("error", event, facts)

    def child_ended(self, event: str, exit_code: int, facts: dict[str, Any]) -> None:
        """An error unless the child ended with 0."""
        self._write("info" if exit_code == 0 else "error", event, facts)

    def _write(self, level: str, event: str, facts: dict[str, Any]) -> None:
        """The line is dropped when stderr takes nothing: a full pipe must not hold up the parent."""
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
        line = {**facts, "event": event, "level": level, "timestamp": stamp, "service": self._service}
        poll = select.poll()
        poll.register(2, select.POLLOUT)
        try:
            if poll.poll(0):
                os.write(2, json.dumps(line).encode()[: select.PIPE_BUF - 1] + b"\n")
        except OSError:
            return
