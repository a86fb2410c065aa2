"""Answers whose headers aiohttp refuses: too many, too large, a length twice, whatever servers write.

The first line still says whether the endpoint took the delivery, and that is what counts.
"""

from __future__ import annotations

import re
from typing import Any

import aiohttp
from aiohttp.connector import Connection

from mesh_core.egress import AnswerHandler


class OddAnswer(Exception):
    """An answer of which only the status can be read."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}, with headers that cannot be read")
        self.status = status


class Handler(AnswerHandler):
    """Remembers how the answer to the present request begins."""

    beginning = b""

    def set_response_params(self, **params: Any) -> None:
        """Called before each request on the connection."""
        self.beginning = b""
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Takes bytes of the answer."""
        if len(self.beginning) < _STATUS_BYTES:
            self.beginning += data[: _STATUS_BYTES - len(self.beginning)]
        super().data_received(data)


class Response(aiohttp.ClientResponse):
    """Raises `OddAnswer` for an answer that has a final status and cannot be parsed."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Reads the head of the answer."""
        protocol = connection.protocol
        try:
            return await super().start(connection)
        except aiohttp.ClientResponseError as error:
            began = _status(protocol.beginning) if isinstance(protocol, Handler) else None
            if began is None:
                raise
            raise OddAnswer(int(began[1])) from error


_STATUS_BYTES = 16
_status = re.compile(rb"HTTP/1\.[01] ([2-5][0-9]{2})\b").match
