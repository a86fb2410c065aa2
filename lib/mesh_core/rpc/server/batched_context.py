"""What a handler of a batched call sees in place of gRPC's own context."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NoReturn, cast

from grpc import StatusCode
from grpc.aio import AbortError

from mesh_core.rpc.peers.metadata import Metadata
from mesh_core.rpc.server.parsing import Context


class BatchedContext:
    """The part of `grpc.aio.ServicerContext` that unary handlers use."""

    __slots__ = ("_deadline", "_loop", "_received", "initial", "message", "status", "timer", "trailing")

    def __init__(self, received: Metadata, timeout: float | None) -> None:
        self._received = received
        self._loop = asyncio.get_running_loop()
        self._deadline = None if timeout is None else self._loop.time() + timeout
        self.timer: asyncio.TimerHandle | None = None
        self.status = StatusCode.OK
        self.message = ""
        self.initial: Metadata = ()
        self.trailing: Metadata = ()

    def as_grpc(self) -> Context:
        """This, for functions that are typed for gRPC's own."""
        return cast("Context", self)

    @property
    def expired(self) -> bool:
        """Whether the call's deadline has passed."""
        return self._deadline is not None and self._loop.time() >= self._deadline

    def invocation_metadata(self) -> Metadata:
        return self._received

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else max(self._deadline - self._loop.time(), 0.0)

    async def send_initial_metadata(self, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        self.initial = metadata

    def set_trailing_metadata(self, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        self.trailing = metadata

    def trailing_metadata(self) -> Metadata:
        return self.trailing

    def code(self) -> StatusCode:
        return self.status

    async def abort(
        self, code: StatusCode, details: str = "", trailing_metadata: Sequence[tuple[str, str | bytes]] = ()
    ) -> NoReturn:
        self.status, self.message = code, details
        if trailing_metadata:
            self.trailing = trailing_metadata
        raise AbortError
