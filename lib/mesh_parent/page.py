"""The page of memory that a watchdog shares with its child: its layout, and the watchdog's view of it.

The child writes (`mesh_core.process.watchdog`), the watchdog reads. Memory and not a pipe: a watchdog that
was stopped finds the newest values when it goes on, and nothing can fill up. Every instant is seconds on
CLOCK_BOOTTIME.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VARIABLE = "MESH_WATCHDOG_FD"
"""The environment variable with the number of the page's file descriptor."""

# Values of 8 bytes, each at a multiple of 8, so that none is ever seen half written; after them the hello.
LAYOUT_VERSION = 1
PAGE_BYTES = 16384
LAYOUT = {
    "version": 0,  # int64
    "kill_at": 8,  # double; infinity while nothing is held
    "keeper_heartbeat": 16,  # double; 0.0 while the keeper is not at work
    "loop_heartbeat": 24,  # double; 0.0 until the event loop first ran
    "lease": 32,  # int64, 0 for none
    "hello_length": 40,  # int64, set once the hello is complete
    "hello": 48,  # JSON
}


class Page:
    """A new page, in a file that has no name."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("mesh-watchdog")
        os.ftruncate(self.descriptor, PAGE_BYTES)
        self._memory = mmap.mmap(self.descriptor, PAGE_BYTES)
        struct.pack_into("q", self._memory, LAYOUT["version"], LAYOUT_VERSION)
        struct.pack_into("d", self._memory, LAYOUT["kill_at"], math.inf)

    def close(self) -> None:
        self._memory.close()
        os.close(self.descriptor)

    @property
    def kill_at(self) -> float:
        """The instant by which the child must be gone."""
        return self._double("kill_at")

    @property
    def lease(self) -> int:
        """The child's etcd lease, 0 for none."""
        return self._integer("lease")

    def verdict(self, now: float, silence: float) -> str:
        """Why the child must be killed now, by what the page says at this moment; "" when it may live.

        `silence` is the longest time in seconds without a heartbeat.
        """
        if now >= self.kill_at:
            return "deadline passed"
        for name, who in (("loop_heartbeat", "event loop"), ("keeper_heartbeat", "keeper")):
            heartbeat = self._double(name)
            if heartbeat and now - heartbeat >= silence:
                return f"no heartbeat of the {who} for {now - heartbeat:.1f} s"
        return ""

    def hello(self) -> dict[str, Any]:
        """Who the child was, and where its death is recorded; empty when it ended before it said so."""
        length = self._integer("hello_length")
        start = LAYOUT["hello"]
        return json.loads(self._memory[start : start + length]) if length else {}

    def _double(self, name: str) -> float:
        return struct.unpack_from("d", self._memory, LAYOUT[name])[0]  # type: ignore[no-any-return] # a double

    def _integer(self, name: str) -> int:
        return struct.unpack_from("q", self._memory, LAYOUT[name])[0]  # type: ignore[no-any-return] # an int64
