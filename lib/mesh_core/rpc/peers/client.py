"""The caller's side of a connection to one peer."""

from __future__ import annotations

import asyncio

from google.protobuf.message import DecodeError
from grpc import StatusCode

from mesh_core.rpc.peers.connection import FrameConnection, in_frames
from mesh_core.rpc.peers.metadata import Metadata, entries, pairs
from mesh_core.rpc.peers.outcome import CallFailed, Response
from sessionmesh.internal.v1 import peer_pb2 as pb


class PeerConnection:
    """Calls on one connection. After it has ended, `call` raises; make another one then.

    Calls that are made in one turn of the event loop leave in one frame.
    """

    def __init__(self, connection: FrameConnection, token: bytes) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._numbers = 0
        self._unsent: dict[int, pb.Call] = {}
        self._cancelled: list[int] = []
        self._waiting: dict[int, asyncio.Future[Response]] = {}
        self._flushing = False
        self.ended: CallFailed | None = None
        """Why no call can be made any more."""
        connection.on_frame = self._frame_received
        connection.on_end = self._broke
        connection.send(token)

    async def call(self, path: str, request: bytes, metadata: Metadata, timeout: float | None) -> Response:
        """Call the method at `path`. Raises `CallFailed`. Cancelling it cancels the call over there."""
        if self.ended is not None:
            raise self.ended
        self._numbers += 1
        number = self._numbers
        micros = 0 if timeout is None else max(int(timeout * 1e6), 1)
        self._unsent[number] = pb.Call(
            id=number, path=path, metadata=entries(metadata), timeout_micros=micros, request=request
        )
        answer: asyncio.Future[Response] = self._loop.create_future()
        self._waiting[number] = answer
        self._flush_soon()
        try:
            return await answer
        except asyncio.CancelledError:
            if self._waiting.pop(number, None) is not None and self._unsent.pop(number, None) is None:
                self._cancelled.append(number)
                self._flush_soon()
            raise

    def close(self) -> None:
        """End the connection; calls without an answer fail."""
        self._connection.abort("the connection was closed")

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        for calls in in_frames([*self._unsent.values()]):
            self._connection.send(pb.CallFrame(calls=calls).SerializeToString())
        if self._cancelled:
            self._connection.send(pb.CallFrame(cancelled_ids=self._cancelled).SerializeToString())
        self._unsent.clear()
        self._cancelled.clear()

    def _frame_received(self, raw: bytes) -> None:
        try:
            frame = pb.AnswerFrame.FromString(raw)
        except DecodeError:
            self._connection.abort("the peer sent a malformed frame")
            return
        for answer in frame.answers:
            self._answered(answer)
        if frame.closing:
            self._end("the server is going away", begun=False)

    def _answered(self, answer: pb.Answer) -> None:
        waiting = self._waiting.pop(answer.id, None)
        if waiting is None or waiting.done():
            return
        trailing = pairs(answer.trailing_metadata) if answer.trailing_metadata else ()
        if answer.code:
            waiting.set_exception(CallFailed(_CODES[answer.code], answer.message, trailing))
            return
        initial = pairs(answer.initial_metadata) if answer.initial_metadata else ()
        waiting.set_result(Response(answer.response, initial, trailing))

    def _broke(self, reason: str) -> None:
        self._end(reason, begun=True)

    def _end(self, reason: str, *, begun: bool) -> None:
        if self.ended is not None:
            return
        self.ended = CallFailed(StatusCode.UNAVAILABLE, reason, begun=False)
        for number, waiting in self._waiting.items():
            if not waiting.done():
                sent = number not in self._unsent
                waiting.set_exception(CallFailed(StatusCode.UNAVAILABLE, reason, begun=begun and sent))
        self._waiting.clear()
        self._unsent.clear()
        self._connection.close()


_CODES = {code.value[0]: code for code in StatusCode}
