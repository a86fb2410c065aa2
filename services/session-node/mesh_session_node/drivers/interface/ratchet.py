"""A ratchet's positions: stored before they are used, and never used twice, whoever has the account."""

from __future__ import annotations

from abc import ABC, abstractmethod

from mesh_session_node.drivers.interface.state import Reservation

BLOCK = 64
"""Positions that are reserved at once. Those that are not used when the account moves are skipped, which
networks allow.
"""
_SKIPPED = 4096
_RESTORED = 2**32
"""More positions than an account uses in the life of a backup: a thousand messages a second use them in 50
days.
"""


class RatchetState(ABC):
    """A `DriverState` that is its own `Ratchet`. `next` is the first unused position; those below `_reserved`
    are stored, those below `_wanted` have been asked to be stored, and accepted messages count on those below
    `_planned`.
    """

    __slots__ = ("_block", "_planned", "_reserved", "_wanted", "next")

    def __init__(self, reserved: int, block: int = BLOCK) -> None:
        """Begin behind what is stored: whoever had the account before may have used all of it."""
        self._block = block
        self.next = self._planned = self._reserved = self._wanted = reserved

    @abstractmethod
    def dump(self, reserved: int) -> bytes:
        """The state's stored form, with every position below `reserved` taken."""

    @property
    def ratchet(self) -> RatchetState:
        return self

    @property
    def left(self) -> int:
        return self._reserved - self.next

    def use(self) -> int:
        """The next position, for one message. Raises `RuntimeError` when it is not stored: another owner
        could use it too.
        """
        position = self.next
        if position >= self._reserved:
            raise RuntimeError("the ratchet position is not stored yet")
        self.next = position + 1
        return position

    def plan(self) -> Reservation | None:
        self._planned += 1
        if self._planned <= self._wanted:
            return None
        return self._ask(self._planned + self._block - 1)

    def reserve(self, messages: int) -> Reservation:
        return self._ask(max(self._wanted, self.next) + messages + self._block)

    def confirm(self, reservation: Reservation) -> None:
        self._reserved = max(self._reserved, reservation.upto)

    def drop(self, reservation: Reservation) -> None:
        if reservation.upto > self._reserved:
            self._wanted = self._reserved

    def skip(self) -> None:
        self.next = self._reserved + _SKIPPED
        self._planned = max(self._planned, self.next)

    def restored(self) -> None:
        self.next = self._planned = self._reserved = self._wanted = self._reserved + _RESTORED

    def _ask(self, upto: int) -> Reservation:
        self._wanted = upto
        return Reservation(self.dump(upto), upto)
