"""How much of answers is taken before the one that counts.

A server may send informational answers (1xx) first, and aiohttp takes them without number, faster than
anything else gets its turn: a server that never stops keeps the whole process from its work, and time-outs
from ending that. So who asks a server of a caller's choice connects by `connector`.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader

from mesh_core.egress.resolver import CheckedResolver

MAX_INFORMATIONAL = 8
"""How many informational answers may come before the final one."""

MAX_BYTES = 1024 * 1024
"""How many bytes may come to one request, in all, where a handler says nothing else. Who reads the beginning
of a body and stops holds up the rest of it, but not the extensions of a chunk, which may go on for ever.
"""


class AnswerHandler(ResponseHandler):
    """A connection that is closed, and its request failed with an `aiohttp.ClientError`, when more than
    `MAX_INFORMATIONAL` informational answers or `max_bytes` come. It is closed after a final answer that
    another one follows.
    """

    max_bytes = MAX_BYTES

    _informational = 0
    _final = False
    _refused = False
    _bytes = 0

    def set_response_params(self, **params: Any) -> None:
        """Called before each request on the connection."""
        self._informational, self._bytes = 0, 0
        self._final = self._refused = False
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Takes bytes of the answer; its head in pieces, since thousands of answers fit into what is read at
        once.
        """
        while not self._final and not self._refused and len(data) > _PIECE_BYTES:
            self._take(data[:_PIECE_BYTES])
            data = data[_PIECE_BYTES:]
        if not self._refused:
            self._take(data)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Takes an answer's head; those that are too many are dropped."""
        informational = 100 <= data[0].code < 200 and data[0].code != _SWITCHING
        self._informational += informational
        if self._final or self._informational > MAX_INFORMATIONAL:
            self._refuse("too many answers to one request")
            return
        self._final = not informational
        super().feed_data(data, size)

    def _take(self, data: bytes) -> None:
        super().data_received(data)
        self._bytes += len(data)
        if self._bytes > self.max_bytes:
            self._refuse("the answer is too long")

    def _refuse(self, problem: str) -> None:
        self._refused = True
        if self.transport is not None:
            self.transport.close()
        if self._exception is None:
            self.set_exception(HttpProcessingError(code=0, message=problem))


def connector(
    resolver: CheckedResolver, *, keepalive_seconds: float, handler: type[AnswerHandler] = AnswerHandler
) -> aiohttp.TCPConnector:
    """Connects to what `resolver` permits, with any number of connections. One that nobody uses is kept for
    `keepalive_seconds`; with 0 each is for one request.
    """
    made = aiohttp.TCPConnector(
        resolver=resolver,
        limit=0,
        force_close=not keepalive_seconds,
        keepalive_timeout=keepalive_seconds or None,
    )
    kind: type[ResponseHandler] = handler
    made._factory = functools.partial(kind, loop=asyncio.get_running_loop())  # there is no parameter for it
    return made


_SWITCHING = 101  # final: what follows is no HTTP
_PIECE_BYTES = 4096
