"""Positions in the order of events, which callers get as opaque, URL-safe text."""

from __future__ import annotations

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
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

    def encode(self) -> str:
        """As callers get it: 23 characters of base64url."""
        return urlsafe_b64encode(self.place).rstrip(b"=").decode()

    @property
    def place(self) -> bytes:
        """As tables keep it: 17 bytes, in the same order as cursors."""
        return _FORM.pack(_VERSION, self.generation, self.xid, self.seq)

    @classmethod
    def of_place(cls, place: bytes) -> Self:
        """The cursor whose `place` this is; of no bytes the one before all others."""
        return cls(*_FORM.unpack(place)[1:]) if place else cls(0, 0, 0)

    @classmethod
    def decode(cls, text: str, field: str = "cursor") -> Self:
        """The cursor that `encode` made `text` of; raises `InvalidField` naming `field` for anything else."""
        try:
            version, generation, xid, seq = _FORM.unpack(urlsafe_b64decode(text + "="))
        except (ValueError, struct.error):
            raise _no_cursor(field) from None
        cursor = cls(generation, xid, seq)
        # Python's decoder skips characters that are none of base64's, and several texts may mean one cursor.
        if version != _VERSION or xid > _LAST_XID or seq > LAST_SEQ or cursor.encode() != text:
            raise _no_cursor(field)
        return cursor


def out_of_range(description: str, oldest: Cursor) -> OutOfRange:
    """The error CURSOR_OUT_OF_RANGE; its metadata has the oldest valid cursor as `oldest_cursor`."""
    return OutOfRange(
        f"the cursor {description}", "CURSOR_OUT_OF_RANGE", metadata={"oldest_cursor": oldest.encode()}
    )


def _no_cursor(field: str) -> InvalidField:
    return InvalidField(field, "is not a cursor of this service")


_VERSION = 1
_FORM = struct.Struct(">BIQI")
_LAST_XID = 2**63 - 1
