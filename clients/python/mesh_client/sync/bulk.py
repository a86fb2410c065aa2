"""Sending many messages, without an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from grpc import StatusCode

from mesh_client.bulk import BulkResult, BulkSender
from mesh_client.errors import Cancelled
from mesh_client.sync.loop import LoopThread
from sessionmesh.v1 import message_pb2


class SyncBulkSender:
    """`BulkSender` for `with`, which waits for all results. Threads may share one."""

    def __init__(self, thread: LoopThread, bulk: BulkSender) -> None:
        self._thread = thread
        self._bulk = bulk

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.run(self._bulk.__aexit__(kind, error, trace))

    def send(self, request: message_pb2.SendMessageRequest) -> Future[message_pb2.Message]:
        """Take a message, once there is room for it; a future of it as accepted, or of why it was not.

        Raises `InvalidArgument` for what fits into no frame.
        """
        outcome: Future[message_pb2.Message] = Future()

        async def send() -> None:
            sent = await self._bulk.send(request)
            outcome.set_running_or_notify_cancel()
            sent.add_done_callback(lambda done: _copy(done, outcome))

        self._thread.run(send())
        return outcome

    def results(self, requests: Iterable[message_pb2.SendMessageRequest]) -> Iterator[BulkResult]:
        """Send all of `requests`, read in this thread, and give each one's result as it comes."""
        results: SimpleQueue[BulkResult] = SimpleQueue()
        missing = 0
        for request in requests:
            self._thread.run(self._bulk.offer(request, results.put))
            missing += 1
            while not results.empty():
                missing -= 1
                yield results.get()
        for _ in range(missing):
            yield results.get()

    def drain(self) -> None:
        """Wait until every message taken has its result."""
        self._thread.run(self._bulk.drain())

    def close(self) -> None:
        """Stop; futures without a result are cancelled."""
        self._thread.run(self._bulk.close())


def _copy(done: asyncio.Future[message_pb2.Message], outcome: Future[message_pb2.Message]) -> None:
    if done.cancelled():
        outcome.set_exception(Cancelled(StatusCode.CANCELLED, "the bulk sender was closed"))
    elif failure := done.exception():
        outcome.set_exception(failure)
    else:
        outcome.set_result(done.result())
