"""What every neighbour has, whatever it does."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

import grpc.aio
import msgspec

from mesh_core.rpc.channels import open_channel

TIMEOUT = 30.0
_A_FEW = 32


class Neighbour(msgspec.Struct, frozen=True):
    """A tenant of its own for each attack, with its connected accounts; what is asked of the router, and how
    much of everything there is: 1 for all of it.
    """

    address: str
    key: str
    accounts: list[str]
    scale: float


class Attack(ABC):
    """Prepared once; then it runs until it is cancelled, and again."""

    def __init__(self, neighbour: Neighbour) -> None:
        self.neighbour = neighbour
        self.channel = open_channel(neighbour.address)
        self.metadata = (("authorization", f"Bearer {neighbour.key}"),)
        self.outcomes: Counter[str] = Counter()
        """How often what became of it."""
        self._serial = count()

    async def prepare(self) -> None:  # noqa: B027 - most have nothing to prepare
        """Make what it needs and the bystander need not see being made."""

    @abstractmethod
    async def run(self) -> None:
        """Do it without an end."""

    async def rest(self) -> None:  # noqa: B027 - most are over once they are cancelled
        """Let go of what would go on."""

    def scaled(self, number: int) -> int:
        """So many in a whole benchmark."""
        return max(1, round(number * self.neighbour.scale))

    def unique(self) -> str:
        """A request id."""
        return f"neighbour-{next(self._serial)}"

    async def counted(self, call: Awaitable[Any]) -> Any:
        """Its answer; None, with the error counted, when it fails."""
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            self.outcomes[error.code().name] += 1
            return None
        self.outcomes["OK"] += 1
        return answer


async def abreast(number: int, loop: Callable[[int], Awaitable[None]]) -> None:
    """So many at once, without an end: each is told its number."""

    async def forever(which: int) -> None:
        while True:
            with contextlib.suppress(ConnectionError):
                await loop(which)

    async with asyncio.TaskGroup() as tasks:
        for which in range(number):
            tasks.create_task(forever(which), name=f"attack {which}")


async def a_few_at_once(number: int, call: Callable[[], Awaitable[Any]]) -> list[Any]:
    """The results of so many calls."""
    room = asyncio.Semaphore(_A_FEW)

    async def one() -> Any:
        async with room:
            return await call()

    return await asyncio.gather(*(one() for _ in range(number)))
