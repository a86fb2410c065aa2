"""One timer for the keepalives of all sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mesh_session_node.session.session import Session

_TICK = 0.1
PATIENCE = 2.5
"""Periods without a sign of life after which a session is not connected."""


class Keepalive:
    """Ten times a second a slice of the sessions, so that each has its turn once a period."""

    def __init__(self, sessions: Mapping[str, Session], period: float) -> None:
        self._sessions = sessions
        self._period = period

    async def run(self) -> None:
        """Until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            turn = list(self._sessions.values())
            size = -(-len(turn) * _TICK // self._period)
            at = 0
            while at < len(turn):
                now = loop.time()
                for session in turn[at : at + int(size)]:
                    if not session.closed:
                        session.keepalive(now, self._period * PATIENCE)
                at += int(size)
                await asyncio.sleep(_TICK)
            await asyncio.sleep(max(_TICK, began + self._period - loop.time()))
