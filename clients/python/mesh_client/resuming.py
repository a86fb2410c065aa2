"""Streams that go on: when one breaks, the next one begins where it was."""

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
    """The responses of one stream after the other; `open_stream` begins each where the last one was.

    A stream is followed by another when it breaks, when its server goes away, and when nothing comes for
    `silence` seconds, for as long as it takes. Before anything has come, and when it fails for another
    reason, the failure is raised.
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
        if not (answered and _passes(failure)):
            raise failure
        logger.info("a stream broke, and is begun again: %s", failure)
        if failures:
            await asyncio.sleep(max(backoff(failures), failure.retry_after or 0.0))
        failures += 1


def _passes(failure: MeshCallError) -> bool:
    if failure.code is StatusCode.UNAVAILABLE:
        return True
    # Without a reason it is not the mesh that speaks, but the connection, or a proxy on the way.
    return failure.code in _OF_CONNECTIONS and not failure.reason


_OF_CONNECTIONS = frozenset(
    {StatusCode.CANCELLED, StatusCode.DEADLINE_EXCEEDED, StatusCode.INTERNAL, StatusCode.UNKNOWN}
)
