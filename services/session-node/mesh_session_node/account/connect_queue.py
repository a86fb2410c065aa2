"""Turns to connect, as an account waits for them."""

from __future__ import annotations

from typing import Protocol

from asyncpg.pgproto.pgproto import UUID


class Dialer(Protocol):
    """Who waits for a turn to dial."""

    @property
    def id(self) -> str: ...
    @property
    def tenant(self) -> UUID: ...
    async def dial(self) -> None:
        """Connect and log in."""


class ConnectQueue(Protocol):
    """Gives turns to dial."""

    def admit(self, dialer: Dialer, *, first: bool = False) -> None:
        """Call `dial` when its turn comes, in a task of its own; `first`: before those that nobody asked
        for.
        """
