"""The streams of a bulk sender, one after the other."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from grpc import StatusCode
from grpc.aio import AioRpcError

from mesh_client.bulk_items import Items
from mesh_client.caller import Caller, failure_of
from mesh_client.errors import MeshCallError, Unavailable, item_error
from mesh_client.methods import methods_of
from mesh_client.retries import backoff, is_broken, pause_before
from mesh_client.streams import half_close, send_bytes
from sessionmesh.v1 import message_pb2

logger = logging.getLogger("mesh_client")


class BulkStreams:
    """Sends `items` and receives their results; the next stream sends again what a broken one left open."""

    def __init__(self, caller: Caller, items: Items) -> None:
        self.failure: MeshCallError | None = None
        self.closed = False
        self._caller = caller
        self._items = items
        self._failures = 0

    def close(self) -> None:
        """Makes `run` close the stream and return."""
        self.closed = True
        self._items.changed.set()

    async def run(self) -> None:
        """Runs one stream after the other until `close`."""
        try:
            while not self.closed:
                try:
                    await self._use_stream()
                except MeshCallError as failure:
                    self._items.take_back()
                    await self._recover(failure)
        except Exception as error:  # a defect: whoever waits must be told
            logger.exception("a bulk sender failed")
            self._items.fail_all(error)

    async def _use_stream(self) -> None:
        """From the first frame until the stream ends; returns when the sender is closed."""
        await self._items.wait_until(lambda: bool(self._items.waiting) or self.closed)
        if self.closed:
            return
        attempts = self._caller.attempts(_CONNECT_SECONDS, repeatable=False)
        function = await self._caller.callable(_SEND_MESSAGES, attempts)
        call = function(metadata=self._caller.metadata(None))
        reading = asyncio.create_task(self._read(call), name="results of a bulk sender")
        reading.add_done_callback(lambda _: self._items.changed.set())
        try:
            while not self.closed and not reading.done():
                frame = self._items.next_frame()
                if frame and not await send_bytes(call, frame):
                    break
                await self._items.wait_until(
                    lambda: bool(self._items.waiting) or self.closed or reading.done()
                )
            if self.closed:
                await half_close(call)
                await asyncio.wait([reading], timeout=_CLOSE_SECONDS)
            else:
                await reading
        finally:
            call.cancel()
            reading.cancel()
            await asyncio.wait([reading])

    async def _read(self, call: Any) -> None:
        try:
            async for frame in call:
                for result in frame.results:
                    self._set_result(result)
        except (AioRpcError, asyncio.CancelledError) as error:
            raise failure_of(error) from None
        raise Unavailable(StatusCode.UNAVAILABLE, "the stream has ended")

    def _set_result(self, result: message_pb2.SendResult) -> None:
        item = self._items.answered((result.account_id, result.request_id))
        if item is None or item.future.done():
            return
        self._failures, self.failure = 0, None
        if result.HasField("message"):
            item.future.set_result(result.message)
            self._caller.budget.earn()
            return
        error = item_error(result.error)
        pause = pause_before(item.attempts, error)
        if pause is None or not self._caller.budget.spend():
            item.future.set_exception(error)
        else:
            item.attempts += 1
            asyncio.get_running_loop().call_later(pause, self._items.wait, item)

    async def _recover(self, failure: MeshCallError) -> None:
        """Waits before the next stream, or fails all items when another stream would not help."""
        lasting = failure.code not in _RETRYABLE
        if is_broken(failure) and self._failures == _DIAGNOSE_AFTER:
            failure, lasting = await self._caller.transports.diagnosed(failure)
        self.failure = failure
        if lasting:
            self._items.fail_all(failure)
            return
        logger.info("the stream of a bulk sender broke: %s", failure)
        pause = max(backoff(self._failures), failure.retry_after or 0.0) if self._failures else 0.0
        self._failures += 1
        await asyncio.sleep(pause)


_SEND_MESSAGES = methods_of("sessionmesh.v1.MessageService")["SendMessages"]
_RETRYABLE = frozenset(
    {
        StatusCode.UNAVAILABLE,
        StatusCode.CANCELLED,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.INTERNAL,
        StatusCode.UNKNOWN,
    }
)
"""Statuses after which another stream is opened; request ids make sending again harmless."""
_DIAGNOSE_AFTER = 2
_CLOSE_SECONDS = 1.0
_CONNECT_SECONDS = 10.0
