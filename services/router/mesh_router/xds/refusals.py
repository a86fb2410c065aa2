"""Logs what clients refuse."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from mesh_router.xds.client import Refusal, short_name

logger = structlog.get_logger(__name__)

PERIOD_SECONDS = 10.0
LINES = 10


class RefusalLog:
    """Logs at most `LINES` refusals in `PERIOD_SECONDS`: all clients refuse a bad resource at once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = clock()
        self._count = 0

    def log(self, node_id: str, refusal: Refusal) -> None:
        """Log which client refused what, and why, unless there were too many."""
        now = self._clock()
        if now - self._since >= PERIOD_SECONDS:
            if self._count > LINES:
                logger.warning("more xDS clients refused resources", times=self._count - LINES)
            self._since, self._count = now, 0
        self._count += 1
        if self._count <= LINES:
            logger.warning(
                "xDS client refuses resources",
                client=node_id,
                type=short_name(refusal.type_url),
                version=refusal.version,
                reason=refusal.reason,
            )
