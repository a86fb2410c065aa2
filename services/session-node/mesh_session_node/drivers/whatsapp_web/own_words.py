"""What the sidecar says of itself and not of a connection: that it runs, and its log."""

from __future__ import annotations

import asyncio
import logging
import time

import structlog

from sessionmesh.internal.v1 import linked_device_pb2 as pb

logger = structlog.get_logger(__name__)

MAX_LINES = 100
"""Of its log in a second; the rest is counted."""
_RESERVED = frozenset({"event", "level", "logger", "timestamp"})


class OwnWords:
    """Implements `Receiver` for the connection 0."""

    def __init__(self) -> None:
        self.started: asyncio.Future[pb.SidecarStarted] = asyncio.get_running_loop().create_future()
        self._second = 0
        self._lines = 0

    def heard(self, response: pb.RunResponse) -> None:
        kind = response.WhichOneof("response")
        if kind == "started" and not self.started.done():
            self.started.set_result(response.started)
        elif kind == "log":
            self._log(response.log)

    def broken(self, detail: str) -> None:
        """It was logged: a line of its log is not worth the sidecar."""

    def gone(self, detail: str) -> None:
        self.started.cancel()

    def _log(self, line: pb.LogLine) -> None:
        second = int(time.monotonic())
        if second != self._second:
            if self._lines > MAX_LINES:
                logger.warning("lines of the sidecar's log were left out", lines=self._lines - MAX_LINES)
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= MAX_LINES:
            fields = {name: text for name, text in line.fields.items() if name not in _RESERVED}
            level = min(max(line.level, logging.DEBUG), logging.ERROR) // 10 * 10
            logger.log(level, "sidecar: " + line.message, **fields)
