"""What an account has of the simulated network: its credential, and its place in the ratchet."""

from __future__ import annotations

import msgspec

from mesh_session_node.drivers.driver import Reservation

BLOCK = 64
"""Ratchet positions that are reserved at once; those unused when the account moves are skipped, which is
legal.
"""
_SKIP = 4096


class StoredState(msgspec.Struct, frozen=True, array_like=True):
    """As stored. Positions below `reserved` may have been used."""

    user_id: str
    secret: bytes
    phone: str
    push_name: str
    hidden_id: str
    reserved: int


class SimulatedState:
    """The positions: `next` is the first unused one, below `_reserved` they are stored, below `_wanted` asked
    for.
    """

    __slots__ = ("_planned", "_reserved", "_wanted", "next", "stored")

    def __init__(self, stored: StoredState) -> None:
        self.stored = stored
        # Whoever had the account before may have used everything that it had reserved.
        self.next = self._planned = self._reserved = self._wanted = stored.reserved

    @property
    def phone(self) -> str:
        return self.stored.phone

    @property
    def user_id(self) -> str:
        return self.stored.user_id

    @property
    def push_name(self) -> str:
        return self.stored.push_name

    @property
    def left(self) -> int:
        return self._reserved - self.next

    def use(self) -> int:
        """The next position, for one frame. Raises `RuntimeError` when it is not stored: sending now could
        repeat it.
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
        return self._ask(self._planned + BLOCK - 1)

    def reserve(self, messages: int) -> Reservation:
        return self._ask(max(self._wanted, self.next) + messages + BLOCK)

    def confirm(self, reservation: Reservation) -> None:
        self._reserved = max(self._reserved, reservation.upto)

    def drop(self, reservation: Reservation) -> None:
        if reservation.upto > self._reserved:
            self._wanted = self._reserved

    def skip(self) -> None:
        self.next = self._reserved + _SKIP
        self._planned = max(self._planned, self.next)

    def dump(self, reserved: int) -> bytes:
        """The state with everything below `reserved` taken."""
        return _encoder.encode(msgspec.structs.replace(self.stored, reserved=reserved))

    def _ask(self, upto: int) -> Reservation:
        self._wanted = upto
        return Reservation(self.dump(upto), upto)


def load_state(state: bytes) -> SimulatedState:
    """The state as stored."""
    return SimulatedState(_decoder.decode(state))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(StoredState)
