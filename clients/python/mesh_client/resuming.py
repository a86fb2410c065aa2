"""Streams that resume: when one breaks, the next one starts where it was."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from grpc import StatusCode

from mesh_client.errors import MeshCallError, Unavailable
from mesh_client.retries import backoff
from mesh_client.streams import Stream

logger = logging.getLogger("mesh_client")


async def resumed(
    open_stream: Callable[[], Stream], silence: float | None = None
) -> AsyncGenerator[Any, None]:
    """The responses of one stream after the other; `open_stream` opens each where the last one ended.

    A stream is replaced when it breaks, when its server drains, and when nothing comes for `silence` seconds.
    A failure before the first response, and one for another reason, is raised.
    """
    answered = False
    failures = 0
    while True:
        stream = open_stream()
        try:
            async with aclosing(aiter(stream)) as responses:
                while True:
                    async with asyncio.timeout(silence):
                        response = await anext(responses)
                    answered, failures = True, 0
                    yield response
        except StopAsyncIteration:
            return
        except MeshCallError as error:
            failure = error
        except TimeoutError:
            failure = Unavailable(StatusCode.UNAVAILABLE, f"nothing came for {silence:g} s")
        finally:
            stream.cancel()
        if not (answered and _is_retryable(failure)):
            raise failure
        logger.info("a stream broke and is opened again: %s", failure)
        if failures:
            await asyncio.sleep(max(backoff(failures), failure.retry_after or 0.0))
        failures += 1


def _is_retryable(failure: MeshCallError) -> bool:
    if failure.code is StatusCode.UNAVAILABLE:
        return True
    # A status without a reason comes from the connection or a proxy, not from the mesh.
    return failure.code in _CONNECTION_STATUSES and not failure.reason


_CONNECTION_STATUSES = frozenset(
    {StatusCode.CANCELLED, StatusCode.DEADLINE_EXCEEDED, StatusCode.INTERNAL, StatusCode.UNKNOWN}
)
