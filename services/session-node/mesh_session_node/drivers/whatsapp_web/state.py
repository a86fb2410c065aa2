"""What a node keeps in memory of a linked device: who it is. Its keys are rows."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from mesh_core.validation import stored_text
from sessionmesh.internal.v1 import linked_device_pb2 as pb

RATCHET_ROWS = ("peer/%/session/%", "members/%", "senderkey/status@broadcast/%")
"""Keys, for SQL's LIKE, of the rows without which nothing is encrypted with keys of before: a message to a
device without a session is encrypted with keys that are agreed on with it anew, and one to a group whose
members were not given the account's sender key with a new one, as is a status post. What others encrypt, they
encrypt anew when they are told that it cannot be read.
"""
MAX_SELF = 255
"""Characters of what the network says an account is called."""


class StoredState(msgspec.Struct, frozen=True, array_like=True):
    """As stored."""

    user_id: str
    phone: str
    push_name: str
    hidden_id: str


@dataclass(frozen=True, slots=True)
class WebState:
    """Implements `DriverState`."""

    stored: StoredState

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

    @property
    def ratchet(self) -> None:
        """Ratchets are rows."""
        return None

    def dump(self) -> bytes:
        return _encoder.encode(self.stored)


def load_state(state: bytes) -> WebState:
    """A state from its stored form."""
    return WebState(_decoder.decode(state))


def state_of(identity: pb.DeviceIdentity) -> WebState:
    """The state of a device that was paired just now."""
    names = (identity.user_id, identity.phone, identity.push_name, identity.hidden_id)
    return WebState(StoredState(*(stored_text(name, MAX_SELF) for name in names)))


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(StoredState)
