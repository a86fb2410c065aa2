"""What an account has of the simulated network: its credential, and its place in the ratchet."""

from __future__ import annotations

import msgspec

from mesh_session_node.drivers.interface.ratchet import RatchetState


class StoredState(msgspec.Struct, frozen=True, array_like=True):
    """As stored. Ratchet positions below `reserved` may have been used."""

    user_id: str
    secret: bytes
    phone: str
    push_name: str
    hidden_id: str
    reserved: int


class SimulatedState(RatchetState):
    """Implements `DriverState`."""

    __slots__ = ("stored",)

    def __init__(self, stored: StoredState) -> None:
        super().__init__(stored.reserved)
        self.stored = stored

    @property
    def phone(self) -> str:
        return self.stored.phone

    @property
    def user_id(self) -> str:
        return self.stored.user_id

    @property
    def hidden_id(self) -> str:
        return self.stored.hidden_id

    @property
    def push_name(self) -> str:
        return self.stored.push_name

    def dump(self, reserved: int) -> bytes:
        return _encoder.encode(msgspec.structs.replace(self.stored, reserved=reserved))


def load_state(state: bytes) -> SimulatedState:
    """A state from its stored form."""
    return SimulatedState(_decoder.decode(state))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(StoredState)
