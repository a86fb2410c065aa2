"""What is stored of an account for its driver: who the account is, the place in its ratchet, and rows.

Who it is is small, and loaded with the account. Rows are what a library keeps of thousands of contacts: read
when they are needed, and written before anything that they are about leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

MAX_KEY_BYTES = 512
MAX_VALUE_BYTES = 1024 * 1024
MAX_ROWS = 500_000
"""Of one account."""


class Ratchet(Protocol):
    """An account's place in a ratchet whose positions are leased ahead. A position is stored before it is
    used: one that was not stored and then confirmed cannot be used.
    """

    @property
    def left(self) -> int:
        """How many messages may be sent with the positions that are stored."""

    def plan(self) -> Reservation | None:
        """Count on one more message. Returns what must be stored with it; None when what is stored, or
        reserved already, suffices.
        """

    def reserve(self, messages: int) -> Reservation:
        """What must be stored before `messages` more can be sent."""

    def confirm(self, reservation: Reservation) -> None:
        """The reservation is stored."""

    def drop(self, reservation: Reservation) -> None:
        """The reservation is not stored, or its outcome is unknown."""

    def skip(self) -> None:
        """The network has seen a later position than it should have: go on far behind it."""

    def restored(self) -> None:
        """The state is of a backup, before anything of it is used: go on behind all that may have been used
        since.
        """


@dataclass(frozen=True, slots=True)
class Reservation:
    """A stored form of the state that must be stored before the positions below `upto` may be used."""

    state: bytes
    upto: int


class DriverState(Protocol):
    """An account's pairing. `ratchet` is None where the driver keeps its ratchets in rows: then nothing is
    reserved, and messages are handed over without a position.
    """

    @property
    def phone(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def hidden_id(self) -> str: ...
    @property
    def push_name(self) -> str: ...
    @property
    def ratchet(self) -> Ratchet | None: ...


@dataclass(frozen=True, slots=True)
class RowChange:
    """A row of an account's state from now on; `value` None: there is none. Keys have 1 to `MAX_KEY_BYTES`
    bytes, values up to `MAX_VALUE_BYTES`. Raises `ValueError` for others.
    """

    key: str
    value: bytes | None

    def __post_init__(self) -> None:
        if not 0 < len(self.key.encode()) <= MAX_KEY_BYTES or "\0" in self.key:
            raise ValueError(f"a row's key must have 1 to {MAX_KEY_BYTES} bytes, none of them zero")
        if self.value is not None and len(self.value) > MAX_VALUE_BYTES:
            raise ValueError(
                f"a row's value has {len(self.value)} bytes; at most {MAX_VALUE_BYTES} are taken"
            )


class StateUnavailable(Exception):
    """Rows cannot be read: the database does not answer, one of them cannot be opened, or the account is not
    this node's any more.
    """


class StateRows(Protocol):
    """The rows of one account, for one connection. What comes with an `Incoming`, and what is written, is
    stored in the order in which it was handed over, and none of it without what came before.
    """

    account_id: str
    """For logs."""

    async def read(self, keys: Collection[str] = (), prefixes: Collection[str] = ()) -> Mapping[str, bytes]:
        """The rows that exist of these, and all whose keys begin with one of `prefixes`. They are
        as every `write` that has returned True, or whose rows are known to be stored, left them. Raises
        `StateUnavailable`.
        """

    def write(self, changes: Sequence[RowChange]) -> asyncio.Future[bool]:
        """Store changes, all or none, in the order of the calls. True: they are stored. False: they never
        will be, or nobody knows; the account is not this node's any more, or the database takes nothing. The
        session then ends the connection.
        """
