"""What an account has of the simulated network: its credential, and its place in the ratchet."""

from __future__ import annotations

import msgspec

from mesh_session_node.drivers.interface.driver import Reservation
from mesh_session_node.drivers.interface.ratchet import Ratchet


class StoredState(msgspec.Struct, frozen=True, array_like=True):
    """As stored. Ratchet positions below `reserved` may have been used."""

    user_id: str
    secret: bytes
    phone: str
    push_name: str
    hidden_id: str
    reserved: int


class SimulatedState:
    """Implements `DriverState`."""

    __slots__ = ("ratchet", "stored")

    def __init__(self, stored: StoredState) -> None:
        self.stored = stored
        self.ratchet = Ratchet(stored.reserved)

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
        return self.ratchet.left

    def plan(self) -> Reservation | None:
        upto = self.ratchet.plan()
        return None if upto is None else Reservation(self.dump(upto), upto)

    def reserve(self, messages: int) -> Reservation:
        upto = self.ratchet.reserve(messages)
        return Reservation(self.dump(upto), upto)

    def confirm(self, reservation: Reservation) -> None:
        self.ratchet.confirm(reservation.upto)

    def drop(self, reservation: Reservation) -> None:
        self.ratchet.drop(reservation.upto)

    def skip(self) -> None:
        self.ratchet.skip()

    def dump(self, reserved: int) -> bytes:
        """The stored form, with every position below `reserved` taken."""
        return _encoder.encode(msgspec.structs.replace(self.stored, reserved=reserved))


def load_state(state: bytes) -> SimulatedState:
    """A state from its stored form."""
    return SimulatedState(_decoder.decode(state))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(StoredState)
