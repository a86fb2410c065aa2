"""What an account has of the network in memory."""

from __future__ import annotations

import msgspec

from mesh_session_node.drivers.interface.ratchet import RatchetState


class StoredState(msgspec.Struct, frozen=True, array_like=True):
    """As stored. Ratchet positions below `reserved` may have been used."""

    user_id: str
    phone: str
    push_name: str
    hidden_id: str
    reserved: int


class MemoryState(RatchetState):
    """Implements `DriverState`. Reserves `block` positions at once."""

    def __init__(self, stored: StoredState, block: int) -> None:
        super().__init__(stored.reserved, block)
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
        return msgspec.msgpack.encode(msgspec.structs.replace(self.stored, reserved=reserved))


def load_state(state: bytes, block: int) -> MemoryState:
    """A state from its stored form."""
    return MemoryState(msgspec.msgpack.decode(state, type=StoredState), block)
