"""How fast bytes may be copied."""

from __future__ import annotations

import asyncio
from time import monotonic


class Pace:
    """Holds all who share it to so many bytes a second; None: to nothing."""

    def __init__(self, bytes_per_second: int | None) -> None:
        self._bytes_per_second = bytes_per_second
        self._free_at = monotonic()

    async def keep(self, size: int) -> None:
        """Waits until `size` bytes more are within the pace."""
        if self._bytes_per_second is None:
            return
        self._free_at = max(self._free_at, monotonic()) + size / self._bytes_per_second
        await asyncio.sleep(self._free_at - monotonic())
