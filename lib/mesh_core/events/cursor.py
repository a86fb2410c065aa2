"""Positions in the order of events, which callers get as opaque bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

from mesh_core.errors import InvalidField, OutOfRange

LAST_SEQ = 2**31 - 1
"""At least every event's `seq`: a cursor with it stands behind all events of its transaction."""


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """The position just behind an event: its transaction (`xid`) and its place in it (`seq`).

    `generation` is the database's, which changes when it is restored on another server.
    """

    generation: int
    xid: int
    seq: int

    def encode(self) -> bytes:
        return _FORM.pack(_VERSION, self.generation, self.xid, self.seq)

    @classmethod
    def decode(cls, data: bytes, field: str = "cursor") -> Self:
        """The cursor that `encode` made `data` of; raises `InvalidField` naming `field` for anything else."""
        if len(data) != _FORM.size or data[0] != _VERSION:
            raise InvalidField(field, "is not a cursor of this service")
        _, generation, xid, seq = _FORM.unpack(data)
        if xid > _LAST_XID or seq > LAST_SEQ:
            raise InvalidField(field, "is not a cursor of this service")
        return cls(generation, xid, seq)


def out_of_range(description: str, oldest: Cursor) -> OutOfRange:
    """The error CURSOR_OUT_OF_RANGE; its metadata has the oldest valid cursor in hex, as `oldest_cursor`."""
    return OutOfRange(
        f"the cursor {description}", "CURSOR_OUT_OF_RANGE", metadata={"oldest_cursor": oldest.encode().hex()}
    )


_VERSION = 1
_FORM = struct.Struct(">BIQI")
_LAST_XID = 2**63 - 1
