"""Sends some messages in one call; each has a result of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mesh_client.bulk import BulkResult
from mesh_client.caller import Caller
from mesh_client.errors import MeshCallError, item_error
from mesh_client.methods import methods_of
from mesh_client.outgoing import prepared
from mesh_client.retries import pause_before
from sessionmesh.v1 import message_pb2


async def send_batch(
    caller: Caller, requests: Iterable[message_pb2.SendMessageRequest], timeout: float | None
) -> list[BulkResult]:
    """The result of each request, in their order. Raises `MeshCallError` when none has one.

    Those that may be accepted elsewhere, or a little later, are sent again within `timeout`.
    """
    sent: list[message_pb2.SendMessageRequest] = [prepared(_SEND, request) for request in requests]
    results: dict[int, BulkResult] = {}
    open_ones = list(range(len(sent)))
    attempts = caller.attempts(timeout, repeatable=True)
    while True:
        batch = message_pb2.BatchSendMessagesRequest(messages=[sent[at] for at in open_ones])
        try:
            answer: Any = await caller.call(_BATCH, batch, attempts.remaining(), None)
        except MeshCallError:
            if not results:
                raise
            break
        failures: dict[int, MeshCallError] = {}
        for at, result in zip(open_ones, answer.results, strict=True):
            if result.HasField("message"):
                results[at] = BulkResult(sent[at], message=result.message)
                continue
            error = item_error(result.error)
            results[at] = BulkResult(sent[at], error=error)
            if pause_before(attempts.number, error) is not None:
                failures[at] = error
        open_ones = list(failures)
        if not failures or not await attempts.pause(max(failures.values(), key=_waits)):
            break
    return [results[at] for at in range(len(sent))]


def _waits(error: MeshCallError) -> float:
    return error.retry_after or 0.0


_SEND = methods_of("sessionmesh.v1.MessageService")["SendMessage"]
_BATCH = methods_of("sessionmesh.v1.MessageService")["BatchSendMessages"]
