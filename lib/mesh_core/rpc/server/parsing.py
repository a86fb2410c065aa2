"""Handlers of messages as handlers of bytes: requests are parsed here, and checked by their protos.

gRPC would answer INTERNAL to what cannot be parsed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from google.protobuf.message import DecodeError
from grpc.aio import ServicerContext

from mesh_core.errors import InvalidArgument
from mesh_core.rpc.server import requests

Context = ServicerContext[Any, Any]
Serve = Callable[[Any, Context], Awaitable[Any]]
Parse = Callable[[bytes], Any]


def parsing(body: Serve, parse: Parse) -> Serve:
    """`body`, a function of a message, as one of bytes: to gRPC what cannot be parsed is INTERNAL."""

    async def serve(request: bytes, context: Context) -> Any:
        return await body(parsed(parse, request), context)

    return serve


def parsing_all(body: Serve, parse: Parse) -> Serve:
    """The same of a function of a stream of messages."""

    async def messages(frames: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for frame in frames:
            yield parsed(parse, frame)

    async def serve(frames: AsyncIterator[bytes], context: Context) -> Any:
        return await body(messages(frames), context)

    return serve


def parsed(parse: Parse, request: bytes) -> Any:
    """The message of these bytes, checked by its proto. Raises `InvalidArgument`."""
    try:
        message = parse(request)
    except DecodeError:
        raise InvalidArgument("the request cannot be parsed", "INVALID_FIELD") from None
    requests.check(message)
    return message
