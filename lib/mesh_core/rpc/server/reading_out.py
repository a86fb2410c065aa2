"""Request streams whose calls were refused are read on for a moment.

A grpc.aio client whose call ends in the middle of a write is told INTERNAL instead of why.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from grpc.aio import InternalError

from mesh_core import errors
from mesh_core.rpc.server.parsing import Context, Serve

READ_OUT_SECONDS = 1.0
"""Seconds that a request stream is read on after its call has failed."""
AT_ONCE = 8
"""Streams that are read on at the same time: each may have a message of megabytes."""


class ReadOuts:
    """Reads on, so many at once and no more: each so long, and not after nothing came for a while."""

    def __init__(
        self, at_once: int, seconds: float = READ_OUT_SECONDS, quiet_seconds: float = READ_OUT_SECONDS
    ) -> None:
        self._left = at_once
        self._seconds = seconds
        self._quiet_seconds = quiet_seconds

    async def read(self, requests: AsyncIterator[Any]) -> None:
        """Read on for a moment; not at all when there are too many."""
        if not self._left:
            return
        self._left -= 1
        try:
            with suppress(TimeoutError, InternalError):
                async with asyncio.timeout(self._seconds):
                    await self._until_quiet(requests)
        finally:
            self._left += 1

    async def _until_quiet(self, requests: AsyncIterator[Any]) -> None:
        """Raises `TimeoutError` when nothing came for a while."""
        while True:
            async with asyncio.timeout(self._quiet_seconds):
                if await anext(requests, None) is None:
                    return


read_out = ReadOuts(AT_ONCE).read


def reading_out(body: Serve) -> Serve:
    """`body`, the handler of an upload, which is read on when it is refused."""

    async def serve(requests: Any, context: Context) -> Any:
        try:
            return await body(requests, context)
        except errors.MeshError:
            await read_out(requests)
            raise

    return serve
