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
    """Reads on, so many at once and no more."""

    def __init__(self, at_once: int) -> None:
        self._left = at_once

    async def read(self, requests: AsyncIterator[Any]) -> None:
        """Read on for a moment; not at all when there are too many."""
        if not self._left:
            return
        self._left -= 1
        try:
            with suppress(TimeoutError, InternalError):
                async with asyncio.timeout(READ_OUT_SECONDS):
                    async for _ in requests:
                        pass
        finally:
            self._left += 1


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
