"""Whose presence somebody wants to know of an account's, and what is known of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from mesh_core.errors import ResourceExhausted
from mesh_core.signal import Signal
from sessionmesh.v1 import presence_pb2 as pb

MAX_WATCHES = 100
"""People whose presence one account may have watched at a time."""
WATCH_SECONDS = 900.0
"""How long changes come as events, unless somebody asks again."""
OF_A_PERSON_SECONDS = 1.0
"""Least time between two events of one person."""
OF_AN_ACCOUNT_SECONDS = 0.1
"""Least time between two events of one account, as long as more wait than `BURST`."""
BURST = 20


class Watch:
    """One person who is watched. Instants are the loop's."""

    __slots__ = ("address", "heard", "next_event", "shown", "timer", "told", "until")

    def __init__(self, address: str, until: float) -> None:
        self.address = address
        self.until = until
        self.shown = pb.Presence()
        """As it is now."""
        self.told = b""
        """As the last event told it, serialised."""
        self.next_event = 0.0
        """Not before there is another event."""
        self.timer: asyncio.TimerHandle | None = None
        """Makes the next event."""
        self.heard = Signal()
        """Notified when the network told of it."""


class Watches:
    """Those of one account. They are in memory: who moves to another node has none."""

    __slots__ = ("_arrival", "_by_address")

    def __init__(self) -> None:
        self._by_address: dict[str, Watch] = {}
        self._arrival = 0.0

    def add(self, address: str, now: float) -> Watch:
        """Watch somebody, from now on for as long as that goes. Raises `ResourceExhausted` QUOTA_EXCEEDED."""
        watch = self._by_address.get(address)
        if watch is not None:
            watch.until = now + WATCH_SECONDS
            return watch
        for ended in [one for one in self._by_address.values() if one.until <= now]:
            self.remove(ended)
        if len(self._by_address) >= MAX_WATCHES:
            first = min(one.until for one in self._by_address.values())
            raise ResourceExhausted(
                f"the account watches {MAX_WATCHES} people already",
                "QUOTA_EXCEEDED",
                quota="presence_watches",
                retry_after=max(first - now, 1.0),
            )
        watch = self._by_address[address] = Watch(address, now + WATCH_SECONDS)
        return watch

    def remove(self, watch: Watch) -> None:
        """Watch somebody no more."""
        self._by_address.pop(watch.address, None)
        if watch.timer is not None:
            watch.timer.cancel()

    def of(self, addresses: Iterable[str], now: float) -> Watch | None:
        """Who is watched under one of these addresses; None: nobody."""
        for address in addresses:
            watch = self._by_address.get(address)
            if watch is not None and watch.until > now:
                return watch
        return None

    def present(self, now: float) -> list[Watch]:
        """Everybody who is watched."""
        return [watch for watch in self._by_address.values() if watch.until > now]

    def wait(self, now: float) -> float:
        """Seconds until the account may have another event; 0: it may now, and this one is counted."""
        ahead = max(self._arrival - now, 0.0)
        if ahead > (BURST - 1) * OF_AN_ACCOUNT_SECONDS:
            return ahead - (BURST - 1) * OF_AN_ACCOUNT_SECONDS
        self._arrival = now + ahead + OF_AN_ACCOUNT_SECONDS
        return 0.0
