"""Calls of any method with bytes as their requests, and what was answered, down to the details."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode

from tests.support.api_methods import ApiMethod

CALL_SECONDS = 30.0
FIRST_FRAME_SECONDS = 1.0
"""How long an open stream gets for its first frame: one that waits for something to happen has none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call was answered. `reason` is "" without an ErrorInfo, `fields` those of the BadRequest."""

    code: StatusCode
    message: str = ""
    reason: str = ""
    fields: tuple[str, ...] = ()
    response: bytes = b""

    @property
    def ok(self) -> bool:
        return self.code is StatusCode.OK


class RawCaller:
    """Calls methods on one channel with one key."""

    def __init__(self, channel: grpc.aio.Channel, key: str) -> None:
        self.channel = channel
        self._key = key
        self._channel: Any = channel  # its methods are typed for requests that are messages
        self._metadata = (("authorization", f"Bearer {key}"),)

    def on(self, channel: grpc.aio.Channel) -> RawCaller:
        """The same key on another channel."""
        return RawCaller(channel, self._key)

    async def __call__(self, method: ApiMethod, frames: Sequence[bytes]) -> Answer:
        """The answer to `frames`, one for a unary request; of a response stream it is the first frame."""
        try:
            return Answer(StatusCode.OK, response=await self._response(method, frames))
        except grpc.aio.AioRpcError as error:
            return _refused(error)

    async def frames(self, method: ApiMethod, request: bytes) -> AsyncGenerator[bytes, None]:
        """All that a response stream sends."""
        stream = self._channel.unary_stream(method.path)(
            request, metadata=self._metadata, timeout=CALL_SECONDS
        )
        try:
            async for frame in stream:
                yield frame
        finally:
            stream.cancel()

    async def _response(self, method: ApiMethod, frames: Sequence[bytes]) -> bytes:
        options: Any = {"metadata": self._metadata, "timeout": CALL_SECONDS}
        if not method.request_streaming and not method.response_streaming:
            return bytes(await self._channel.unary_unary(method.path)(frames[0], **options))
        if not method.request_streaming:
            stream: Any = self._channel.unary_stream(method.path)(frames[0], **options)
            return await _first_frame(stream)
        if not method.response_streaming:
            upload: Any = self._channel.stream_unary(method.path)(_each(frames), **options)
            return bytes(await upload)
        both: Any = self._channel.stream_stream(method.path)(_each(frames), **options)
        return await _first_frame(both)


async def _first_frame(stream: Any) -> bytes:
    """The first frame of a stream; b"" when it ends without one, or has none yet."""
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_FRAME_SECONDS):
            frame = await stream.read()
            if frame is grpc.aio.EOF:
                await stream.code()
                return b""
            stream.cancel()
            return bytes(frame)
    stream.cancel()
    return b""


async def _each(frames: Sequence[bytes]) -> AsyncIterator[bytes]:
    for frame in frames:
        yield frame


def _refused(error: grpc.aio.AioRpcError) -> Answer:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            with suppress(DecodeError):
                for packed in status_pb2.Status.FromString(value).details:
                    packed.Unpack(info)
                    packed.Unpack(bad)
    fields = tuple(violation.field for violation in bad.field_violations)
    return Answer(error.code(), error.details() or "", info.reason, fields)
