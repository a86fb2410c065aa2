"""The methods of a service as functions that wait, and streams as iterators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from mesh_client.methods import methods_of
from mesh_client.outgoing import Metadata
from mesh_client.streams import Stream
from mesh_client.sync.loop import LoopThread


def sync_calls(thread: LoopThread, calls: Any, service: str) -> Any:
    """An object with the methods of `calls`, an object of `service_calls`."""
    waiting = _ServiceCalls()
    for name, method in methods_of(service).items():
        kind = _Unary if method.kind == "unary_unary" else _Streaming
        setattr(waiting, name, kind(thread, getattr(calls, name)))
    return waiting


class _ServiceCalls:
    """The methods of one service."""


@dataclass(frozen=True, slots=True)
class _Unary:
    thread: LoopThread
    method: Callable[..., Any]

    def __call__(
        self, request: Message, *, timeout: float | None = None, metadata: Metadata | None = None
    ) -> Any:
        return self.thread.run(self.method(request, timeout=timeout, metadata=metadata))


@dataclass(frozen=True, slots=True)
class _Streaming:
    thread: LoopThread
    method: Callable[..., Stream]

    def __call__(
        self, *request: Message, timeout: float | None = None, metadata: Metadata | None = None
    ) -> SyncStream:
        async def begin() -> Stream:
            return self.method(*request, timeout=timeout, metadata=metadata)

        return SyncStream(self.thread, self.thread.run(begin()))


class SyncStream:
    """A streaming call: iterate over its responses; `write` requests where they are a stream.

    All of it raises `MeshCallError`. Another thread may `cancel` it.
    """

    def __init__(self, thread: LoopThread, stream: Stream) -> None:
        self._thread = thread
        self._stream = stream

    def __iter__(self) -> Iterator[Any]:
        return self._thread.iterate(aiter(self._stream))

    def read(self) -> Any:
        """The next response; `grpc.aio.EOF` at the end."""
        return self._thread.run(self._stream.read())

    def write(self, request: Message) -> None:
        """Send the next request, when the other side has room for it."""
        self._thread.run(self._stream.write(request))

    def done_writing(self) -> None:
        """Say that no more requests come."""
        self._thread.run(self._stream.done_writing())

    def result(self) -> Any:
        """The one response of a call whose requests are a stream."""
        return self._thread.run(self._stream.result())

    def cancel(self) -> None:
        """End the call."""

        async def cancel() -> None:
            self._stream.cancel()

        self._thread.run(cancel())
