"""A place in the order of events, as opaque bytes for callers."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Self

from mesh_core.errors import InvalidField, OutOfRange

LAST_SEQ = 2**31 - 1
"""Greater than any event's `seq`: with it, a cursor stands behind all events of its transaction."""


@dataclass(frozen=True, slots=True, order=True)
class Cursor:
    """Behind the event at (`xid`, `seq`), in the database's `generation`."""

    generation: int
    xid: int
    seq: int

    def encode(self) -> bytes:
        return _FORM.pack(_VERSION, self.generation, self.xid, self.seq)

    @classmethod
    def decode(cls, data: bytes, field: str = "cursor") -> Self:
        """Raises `InvalidField` for what `encode` has not made."""
        if len(data) != _FORM.size or data[0] != _VERSION:
            raise InvalidField(field, "is not a cursor of this service")
        _, generation, xid, seq = _FORM.unpack(data)
        if xid > _LAST_XID or seq > LAST_SEQ:
            raise InvalidField(field, "is not a cursor of this service")
        return cls(generation, xid, seq)


def out_of_range(description: str, oldest: Cursor) -> OutOfRange:
    """OUT_OF_RANGE CURSOR_OUT_OF_RANGE, with the oldest valid cursor in hex in its metadata."""
    return OutOfRange(
        f"the cursor {description}", "CURSOR_OUT_OF_RANGE", metadata={"oldest_cursor": oldest.encode().hex()}
    )


_VERSION = 1
_FORM = struct.Struct(">BIQI")
_LAST_XID = 2**63 - 1
