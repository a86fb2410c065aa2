"""The seam between ownership and whoever runs the sessions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol


class ShardHandler(Protocol):
    """What a session-node does when shards come and go: for each, `acquired`, then `release` or `lost`.

    Only `lost` may come while `acquired` or `release` still runs.
    """

    async def acquired(self, shards: Mapping[int, int]) -> None:
        """These shards (shard -> epoch) may run here from now on. Return soon, connect in the background."""

    async def release(self, shards: Collection[int]) -> None:
        """Hand these over: stop intake, close the sockets, flush the journal and give the fence back with it.

        `Ownership.epoch` still answers for them meanwhile, `Ownership.admits` no longer does. On return no
        act is in flight, every socket is closed, nothing will be written, and the fence is given back: what
        was not is found by the beat of whoever waits for it.
        """

    def lost(self, shards: Collection[int]) -> None:
        """Past the deadline, or fenced off: close the sockets NOW. Nothing may be written for them."""

    def accounts(self, shard: int) -> int:
        """How many accounts of the shard run here: what a handoff takes time for."""

    def loads(self) -> Mapping[int, tuple[int, int]]:
        """For each shard that runs here, and whose accounts are loaded: accounts that want a session, and
        messages in the last minute.
        """
