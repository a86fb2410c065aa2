"""Stubs that fill in what every call needs, retry what may be retried, and raise `MeshCallError`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from grpc.aio import EOF, AioRpcError

from mesh_client.errors import MeshCallError, call_error
from mesh_client.retries import RetryBudget, pause_before
from sessionmesh.v1 import authorization_pb2

DEFAULT_TIMEOUT = 30.0
"""Seconds that a unary call may take, retries included, when no timeout is given. Streams have none."""

Metadata = Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True, slots=True)
class Caller:
    """What the calls of one client have in common."""

    channel: grpc.aio.Channel
    api_key: str
    budget: RetryBudget = field(default_factory=RetryBudget)

    def metadata(self, request: object, more: Metadata | None) -> list[tuple[str, str | bytes]]:
        """Credentials, the account where the request names one, and `more`."""
        metadata: list[tuple[str, str | bytes]] = [("authorization", f"Bearer {self.api_key}")]
        account_id = getattr(request, "account_id", "")
        if account_id:
            metadata.append(("x-account-id", account_id))
        return [*metadata, *(more or ())]


def service_calls(caller: Caller, make_stub: Callable[[Any], object], service: ServiceDescriptor) -> Any:
    """An object with the methods of the stub, called alike."""
    stub = make_stub(caller.channel)
    calls = _ServiceCalls()
    for method in service.methods:
        kind = _KINDS[method.client_streaming, method.server_streaming]
        setattr(calls, method.name, kind(caller, getattr(stub, method.name), _repeatable(method)))
    return calls


class _ServiceCalls:
    """The methods of one service."""


@dataclass(frozen=True, slots=True)
class _Unary:
    caller: Caller
    method: Any
    repeatable: bool

    async def __call__(
        self, request: Message, *, timeout: float | None = None, metadata: Metadata | None = None
    ) -> Any:
        fill_request_id(request)
        sent = self.caller.metadata(request, metadata)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (DEFAULT_TIMEOUT if timeout is None else timeout)
        attempt = 0
        while True:
            try:
                response = await self.method(request, timeout=deadline - loop.time(), metadata=sent)
            except AioRpcError as error:
                failure = call_error(error)
                pause = pause_before(attempt, failure) if self.repeatable else None
                if pause is None or loop.time() + pause >= deadline or not self.caller.budget.spend():
                    raise failure from None
            else:
                self.caller.budget.earn()
                return response
            attempt += 1
            await asyncio.sleep(pause)


@dataclass(frozen=True, slots=True)
class _UnaryStream:
    caller: Caller
    method: Any
    repeatable: bool

    def __call__(
        self, request: Message, *, timeout: float | None = None, metadata: Metadata | None = None
    ) -> Stream:
        fill_request_id(request)
        sent = self.caller.metadata(request, metadata)
        return Stream(self.method(request, timeout=timeout, metadata=sent))


@dataclass(frozen=True, slots=True)
class _Streaming:
    caller: Caller
    method: Any
    repeatable: bool

    def __call__(self, *, timeout: float | None = None, metadata: Metadata | None = None) -> Stream:
        return Stream(self.method(timeout=timeout, metadata=self.caller.metadata(None, metadata)))


class Stream:
    """A streaming call: iterate over its responses, or `read` them; `write` requests where they are a stream.

    All of it raises `MeshCallError`. Leaving the stream before its end needs `cancel`.
    """

    def __init__(self, call: Any) -> None:
        self._call = call

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for response in self._call:
                yield response
        except AioRpcError as error:
            raise call_error(error) from None
        finally:
            self._call.cancel()

    async def read(self) -> Any:
        """The next response; `grpc.aio.EOF` at the end."""
        try:
            return await self._call.read()
        except AioRpcError as error:
            raise call_error(error) from None

    async def write(self, request: Message) -> None:
        """Send the next request, when the other side has room for it."""
        await self._sent(self._call.write(request))

    async def done_writing(self) -> None:
        """Say that no more requests come."""
        await self._sent(self._call.done_writing())

    async def result(self) -> Any:
        """The one response of a call whose requests are a stream."""
        try:
            return await self._call
        except AioRpcError as error:
            raise call_error(error) from None

    def cancel(self) -> None:
        """End the call."""
        self._call.cancel()

    async def _sent(self, sending: Any) -> None:
        try:
            await sending
        except AioRpcError as error:
            raise call_error(error) from None
        except asyncio.InvalidStateError:  # the call has ended
            code = await self._call.code()
            raise MeshCallError(code, await self._call.details() or "the call has ended") from None


def fill_request_id(request: Message) -> None:
    """Give the request an id of its own where it takes one and has none."""
    if "request_id" in request.DESCRIPTOR.fields_by_name and not getattr(request, "request_id", ""):
        setattr(request, "request_id", uuid.uuid4().hex)  # noqa: B010 - the field is not in Message's type


def _repeatable(method: MethodDescriptor) -> bool:
    reads = method.GetOptions().Extensions[authorization_pb2.scope] == authorization_pb2.SCOPE_READ
    return reads or "request_id" in method.input_type.fields_by_name


_KINDS: dict[tuple[bool, bool], Callable[..., Any]] = {
    (False, False): _Unary,
    (False, True): _UnaryStream,
    (True, False): _Streaming,
    (True, True): _Streaming,
}
__all__ = ["DEFAULT_TIMEOUT", "EOF", "Caller", "Stream", "fill_request_id", "service_calls"]
