"""Stubs that fill in what every call needs, retry what may be retried, and raise `MeshCallError`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message
from grpc.aio import EOF

from mesh_client.caller import Caller
from mesh_client.methods import Method, methods_of
from mesh_client.outgoing import DEFAULT_TIMEOUT, Metadata, prepared
from mesh_client.retries import Attempts
from mesh_client.streams import Stream


def service_calls(caller: Caller, service: str) -> Any:
    """An object with the methods of the service, called as those of its stub."""
    calls = _ServiceCalls()
    for name, method in methods_of(service).items():
        setattr(calls, name, _KINDS[method.kind](caller, method))
    return calls


class _ServiceCalls:
    """The methods of one service."""


@dataclass(frozen=True, slots=True)
class _Unary:
    caller: Caller
    method: Method

    async def __call__(
        self, request: Message, *, timeout: float | None = None, metadata: Metadata | None = None
    ) -> Any:
        return await self.caller.call(self.method, request, timeout, metadata)


@dataclass(frozen=True, slots=True)
class _UnaryStream:
    caller: Caller
    method: Method

    def __call__(
        self, request: Message, *, timeout: float | None = None, metadata: Metadata | None = None
    ) -> Stream:
        sent = prepared(self.method, request)
        pairs = self.caller.metadata(request, metadata)

        async def begin(attempts: Attempts) -> Any:
            function = await self.caller.callable(self.method, attempts)
            return function(sent, timeout=timeout and attempts.remaining(), metadata=pairs)

        return Stream(begin, self.caller, self.caller.attempts(timeout, repeatable=self.method.repeatable))


@dataclass(frozen=True, slots=True)
class _Streaming:
    caller: Caller
    method: Method

    def __call__(self, *, timeout: float | None = None, metadata: Metadata | None = None) -> Stream:
        pairs = self.caller.metadata(None, metadata)

        async def begin(attempts: Attempts) -> Any:
            function = await self.caller.callable(self.method, attempts)
            return function(timeout=timeout and attempts.remaining(), metadata=pairs)

        return Stream(begin, self.caller, self.caller.attempts(timeout, repeatable=False))


_KINDS: dict[str, Callable[[Caller, Method], Any]] = {
    "unary_unary": _Unary,
    "unary_stream": _UnaryStream,
    "stream_unary": _Streaming,
    "stream_stream": _Streaming,
}
__all__ = ["DEFAULT_TIMEOUT", "EOF", "Caller", "Stream", "service_calls"]
