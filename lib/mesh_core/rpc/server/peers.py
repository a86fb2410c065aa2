"""The server's side of `mesh_core.rpc.peers`: each call of a frame is served as if it had come by itself."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress

from google.protobuf.message import DecodeError
from grpc import StatusCode
from grpc.aio import AbortError

from mesh_core.errors import GoingAway
from mesh_core.rpc.peers.connection import TOKEN_BYTES, FrameConnection, in_frames
from mesh_core.rpc.peers.metadata import entries, pairs
from mesh_core.rpc.server.batched_context import BatchedContext
from mesh_core.rpc.server.gate import ServeBytes
from mesh_core.rpc.server.methods import Methods
from mesh_core.rpc.server.parsing import Context
from mesh_core.rpc.tls import server_context
from mesh_core.settings import ServerSettings
from sessionmesh.internal.v1 import peer_pb2 as pb
from sessionmesh.internal.v1 import peer_pb2_grpc

TOKEN_SECONDS = 10.0
"""How long a token is good, and how long a connection may be without one."""
MAX_UNKNOWN = 256
"""Connections that have not shown their token. One more, and the oldest is closed; peers show it at once."""


class PeerListener(peer_pb2_grpc.PeerServiceServicer):
    """The open peer connections of one server. It listens once the first one is asked for."""

    def __init__(self, methods: Methods, settings: ServerSettings) -> None:
        self._methods = methods
        self._settings = settings
        self._tokens: set[bytes] = set()
        self._peers: set[_Peer] = set()
        self._unknown: dict[FrameConnection, None] = {}
        self._listening: asyncio.Task[asyncio.Server] | None = None
        self._finishing = False

    async def OpenConnection(
        self, _request: pb.OpenConnectionRequest, _context: Context
    ) -> pb.OpenConnectionResponse:
        if self._finishing:
            raise GoingAway
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen(), name="listen for peers")
        server = await asyncio.shield(self._listening)
        token = secrets.token_bytes(TOKEN_BYTES)
        self._tokens.add(token)
        asyncio.get_running_loop().call_later(TOKEN_SECONDS, self._tokens.discard, token)
        return pb.OpenConnectionResponse(port=server.sockets[0].getsockname()[1], token=token)

    async def finish(self, until: float) -> None:
        """Begin no more calls, answer those begun and end all, until the loop's time `until`."""
        self._finishing = True
        peers = [*self._peers]
        for peer in peers:
            peer.finish()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                for peer in peers:
                    await peer.gone.wait()

    async def close(self) -> None:
        """End all now."""
        self._finishing = True
        if self._listening is not None:
            (await self._listening).close()
        for peer in [*self._peers]:
            peer.connection.abort("the server stopped")

    async def _listen(self) -> asyncio.Server:
        host = self._settings.listen.rpartition(":")[0].strip("[]")
        loop = asyncio.get_running_loop()
        tls = server_context(self._settings)
        return await loop.create_server(
            self._accept,
            host,
            self._settings.peer_port,
            ssl=tls,
            ssl_handshake_timeout=TOKEN_SECONDS if tls is not None else None,
        )

    def _accept(self) -> FrameConnection:
        connection = FrameConnection(accepts=True)
        timer = asyncio.get_running_loop().call_later(TOKEN_SECONDS, self._give_up, connection)
        self._unknown[connection] = None
        if len(self._unknown) > MAX_UNKNOWN:
            self._give_up(next(iter(self._unknown)))

        def ended(_reason: str) -> None:
            timer.cancel()
            self._unknown.pop(connection, None)

        def begin(token: bytes) -> None:
            timer.cancel()
            self._unknown.pop(connection, None)
            if token not in self._tokens or self._finishing:
                connection.abort("the token is wrong")
                return
            self._tokens.discard(token)
            peer = _Peer(self._methods, connection, self._settings.max_message_bytes)
            self._peers.add(peer)
            connection.on_end = lambda _: self._ended(peer)

        connection.on_frame, connection.on_end = begin, ended
        return connection

    def _give_up(self, connection: FrameConnection) -> None:
        """No token came. (Of one that has not got through its TLS handshake nothing else is ever heard.)"""
        self._unknown.pop(connection, None)
        connection.abort("no token came")

    def _ended(self, peer: _Peer) -> None:
        self._peers.discard(peer)
        peer.ended()


class _Peer:
    def __init__(self, methods: Methods, connection: FrameConnection, max_answer: int) -> None:
        self.connection = connection
        self.gone = asyncio.Event()
        self._methods = methods
        self._max_answer = max_answer
        self._loop = asyncio.get_running_loop()
        self._serving: dict[int, asyncio.Task[None]] = {}
        self._answers: list[pb.Answer] = []
        self._flushing = self._finishing = False
        connection.on_frame = self._calls

    def finish(self) -> None:
        """Begin no more calls; end when all that were begun are answered."""
        self._finishing = True
        self._flush_soon()

    def ended(self) -> None:
        """The connection has ended: nobody waits for the calls."""
        self.gone.set()
        for task in self._serving.values():
            task.cancel()

    def _calls(self, raw: bytes) -> None:
        try:
            frame = pb.CallFrame.FromString(raw)
        except DecodeError:
            self.connection.abort("the peer sent a malformed frame")
            return
        if not self._finishing:
            for call in frame.calls:
                self._begin(call)
        for number in frame.cancelled_ids:
            if (task := self._serving.get(number)) is not None:
                task.cancel()

    def _begin(self, call: pb.Call) -> None:
        timeout = call.timeout_micros / 1e6 if call.timeout_micros else None
        context = BatchedContext(pairs(call.metadata), timeout)
        serving = self._serve(call.id, self._methods.unary(call.path), call.request, context)
        task = self._loop.create_task(serving, name=call.path)
        self._serving[call.id] = task
        if timeout is not None:
            context.timer = self._loop.call_later(timeout, task.cancel)

    async def _serve(self, number: int, serve: ServeBytes, request: bytes, context: BatchedContext) -> None:
        answer = None
        try:
            answer = pb.Answer(id=number, response=await serve(request, context.as_grpc()))
            if len(answer.response) > self._max_answer:
                too_large = StatusCode.RESOURCE_EXHAUSTED.value[0]
                answer = pb.Answer(id=number, code=too_large, message="response too large")
        except AbortError:
            answer = pb.Answer(id=number, code=context.status.value[0], message=context.message)
        except asyncio.CancelledError:
            if context.expired:
                answer = pb.Answer(id=number, code=StatusCode.DEADLINE_EXCEEDED.value[0])
        finally:
            del self._serving[number]
            if context.timer is not None:
                context.timer.cancel()
            if answer is not None:
                self._answer(answer, context)
            self._flush_soon()

    def _answer(self, answer: pb.Answer, context: BatchedContext) -> None:
        if context.initial:
            answer.initial_metadata.extend(entries(context.initial))
        if context.trailing:
            answer.trailing_metadata.extend(entries(context.trailing))
        self._answers.append(answer)

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        closing = self._finishing and not self._serving
        for answers in in_frames(self._answers):
            self.connection.send(pb.AnswerFrame(answers=answers).SerializeToString())
        self._answers.clear()
        if closing:
            self.connection.send(pb.AnswerFrame(closing=True).SerializeToString())
            self.connection.close()
