"""A backend that sends without a pause while its mesh is changed under it, and counts the calls that fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from mesh_client import Client, MeshCallError
from tests.support.eventually import eventually

PAUSE_SECONDS = 1.2
"""An account may send 60 messages a minute; what is beyond waits."""


@dataclass(slots=True)
class Load:
    """Calls of each account, one after the other."""

    client: Client
    accounts: Sequence[str]
    messages: list[tuple[str, str]] = field(default_factory=list)
    """The account and id of each message that was accepted."""
    failed: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The load runs inside; each account ends with the call it is at."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as senders:
            for account in self.accounts:
                senders.create_task(self._send(account, stop))
            try:
                yield
            finally:
                stop.set()

    async def until_more(self, count: int) -> None:
        """Wait until so many more messages were accepted."""
        enough = len(self.messages) + count
        await eventually(lambda: len(self.messages) >= enough, 60, f"{count} more messages")

    async def _send(self, account: str, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                message = await self.client.send_text(account, "+4915112345678", "Hello")
                self.messages.append((account, message.id))
            except MeshCallError as error:
                self.failed.append(f"{account}: {error}")
            await asyncio.sleep(PAUSE_SECONDS)
