"""The child's side of a watchdog: tells the parent process until when this one may live.

`mesh_parent.watchdog` starts a service, kills it (SIGKILL) when it is late, and records the incarnation as
dead in etcd once it has reaped it. The two share one page of memory (`mesh_parent.page`). Every instant is
seconds on CLOCK_BOOTTIME.
"""

from __future__ import annotations

import asyncio
import json
import math
import mmap
import os
from typing import Self

from mesh_core.errors import StartupError
from mesh_core.etcd import boottime
from mesh_core.settings import EtcdSettings
from mesh_parent.page import LAYOUT, LAYOUT_VERSION, PAGE_BYTES, VARIABLE

HEARTBEAT_SECONDS = 1.0


class WatchdogClient:
    """Tells the parent that watches this process. Every call is a store to memory: no I/O, no lock."""

    def __init__(self, page: mmap.mmap) -> None:
        self._page = page
        whole = memoryview(page)
        self._doubles = whole.cast("d")
        self._integers = whole.cast("q")
        if self._integers[_VERSION] != LAYOUT_VERSION:
            raise StartupError(f"{VARIABLE} is not the page of a watchdog of this version")

    @classmethod
    def from_environment(cls) -> Self | None:
        """The watchdog that started this process; None without one. Raises `StartupError` for a wrong page.

        Takes the page out of the environment: processes that this one starts are not watched.
        """
        number = os.environ.pop(VARIABLE, "")
        if not number:
            return None
        try:
            descriptor = int(number)
            page = mmap.mmap(descriptor, PAGE_BYTES)
            os.close(descriptor)
        except (ValueError, OSError) as error:
            raise StartupError(f"{VARIABLE}={number!r} is not the page of a watchdog: {error}") from None
        return cls(page)

    def introduce(self, cluster: str, incarnation: str, etcd: EtcdSettings) -> None:
        """Say, once, which incarnation this is, and in which etcd it is to be recorded as dead."""
        hello = {
            "cluster": cluster,
            "incarnation": incarnation,
            "endpoints": etcd.endpoints,
            "username": etcd.username,
            "password": etcd.password,
            "ca": etcd.ca,
            "certificate": etcd.certificate,
            "key": etcd.key,
        }
        encoded = json.dumps(hello).encode()
        start = LAYOUT["hello"]
        self._page[start : start + len(encoded)] = encoded
        self._integers[_HELLO_LENGTH] = len(encoded)

    def lease(self, lease: int) -> None:
        """The etcd lease to revoke when this process has ended; 0 for none."""
        self._integers[_LEASE] = lease

    def kill_at(self, instant: float) -> None:
        """Let me be killed at `instant`: infinity while nothing is held. Also the keeper's heartbeat.

        From the first call on it must be called more often than every 10 s, until `keeper_ended`. May be
        called from any one thread.
        """
        self._doubles[_KILL_AT] = instant
        self._doubles[_KEEPER_HEARTBEAT] = boottime()

    def keeper_ended(self) -> None:
        """Nothing is held any more, and nobody will call `kill_at` again."""
        self._doubles[_KEEPER_HEARTBEAT] = 0.0
        self._doubles[_KILL_AT] = math.inf

    def loop_heartbeat(self) -> None:
        """The event loop runs. From the first call on it must be called more often than every 10 s."""
        self._doubles[_LOOP_HEARTBEAT] = boottime()

    async def run_heartbeat(self) -> None:
        """`loop_heartbeat` every second, for ever: for a supervisor."""
        while True:
            self.loop_heartbeat()
            await asyncio.sleep(HEARTBEAT_SECONDS)


_VERSION, _KILL_AT, _KEEPER_HEARTBEAT, _LOOP_HEARTBEAT, _LEASE, _HELLO_LENGTH = (
    LAYOUT[name] // 8
    for name in ("version", "kill_at", "keeper_heartbeat", "loop_heartbeat", "lease", "hello_length")
)
