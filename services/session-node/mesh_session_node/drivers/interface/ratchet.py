"""A ratchet's positions: stored before they are used, and never used twice, whoever has the account."""

from __future__ import annotations

BLOCK = 64
"""Positions that are reserved at once. Those that are not used when the account moves are skipped, which
networks allow.
"""
_SKIPPED = 4096


class Ratchet:
    """Rising positions. `next` is the first unused one; those below `_reserved` are stored, those below
    `_wanted` have been asked to be stored, those below `_planned` are counted on by accepted messages.
    """

    __slots__ = ("_block", "_planned", "_reserved", "_wanted", "next")

    def __init__(self, reserved: int, block: int = BLOCK) -> None:
        """Begin behind what is stored: whoever had the account before may have used all of it."""
        self._block = block
        self.next = self._planned = self._reserved = self._wanted = reserved

    @property
    def left(self) -> int:
        """How many positions may be used now."""
        return self._reserved - self.next

    def use(self) -> int:
        """The next position. Raises `RuntimeError` when it is not stored: another owner could use it too."""
        position = self.next
        if position >= self._reserved:
            raise RuntimeError("the ratchet position is not stored yet")
        self.next = position + 1
        return position

    def plan(self) -> int | None:
        """Count on one more position. Returns the bound to store; None when enough is on its way."""
        self._planned += 1
        if self._planned <= self._wanted:
            return None
        self._wanted = self._planned + self._block - 1
        return self._wanted

    def reserve(self, positions: int) -> int:
        """The bound that must be stored for so many more positions to be used."""
        self._wanted = max(self._wanted, self.next) + positions + self._block
        return self._wanted

    def confirm(self, upto: int) -> None:
        """Positions below `upto` are stored."""
        self._reserved = max(self._reserved, upto)

    def drop(self, upto: int) -> None:
        """Storing up to `upto` failed, or its outcome is unknown: ask again for what is not stored."""
        if upto > self._reserved:
            self._wanted = self._reserved

    def skip(self) -> None:
        """Go on far behind everything that is stored."""
        self.next = self._reserved + _SKIPPED
        self._planned = max(self._planned, self.next)
