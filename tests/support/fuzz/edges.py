"""Values at the edges of what fields can carry, by the type of the field."""

from __future__ import annotations

import math
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Kinds

SURROGATE_MARK = "\x7f~\x7f"
"""Stands for a lone surrogate, which no string of Python's protobuf can have: `on_the_wire` puts it in."""

INT32 = (0, 1, -1, 2, 10, 999, 1000, 1001, 2**31 - 1, -(2**31))
INT64 = (*INT32, 2**31, 2**53 + 1, 2**63 - 1, -(2**63))
UINT32 = (0, 1, 2, 1000, 2**31, 2**32 - 1)
UINT64 = (*UINT32, 2**63, 2**64 - 1)
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 90.0, 1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf)
BYTES = (b"", b"\0", b"x", b"\xff" * 32, b"\xed\xa0\x80", b"\x0a\xff", b"x" * 1_000_000)
STRINGS = (
    "",
    " ",
    "a",
    "hello",
    "0",
    "\0",
    "before\0after",
    SURROGATE_MARK,
    f"a{SURROGATE_MARK}z",
    "\ufeff",
    "\u202ereversed\u202c",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467",
    "a\nb\r\nc",
    "../../etc/passwd",
    "' OR 1=1 --",
    "%s%n{}{0}",
    "x" * 64,
    "x" * 65,
    "x" * 129,
    "\u00e4" * 256,
    "x" * 70_000,
    "x" * 1_000_000,
)
ADDRESSES = (
    "+4915112345678",
    "+0",
    "4915112345678",
    "+49 151 12345678",
    "+\u0664\u0669151123456",
    "phone:+4915112345678",
    "phone:",
    "group:x",
    "nonsense:x",
    ":",
    "user:" + "x" * 300,
)
IDS = tuple(
    f"{prefix}_{'0' * 26}" for prefix in ("acc", "msg", "med", "whe", "key", "tnt", "evt", "del", "xyz")
)
MALFORMED_IDS = ("acc_", "acc_" + "0" * 25, "acc_" + "0" * 27, "msg_" + "U" * 26, "acc_" + "z" * 26)
URLS = (
    "http://",
    "https://127.0.0.1:1/",
    "https://[::1]/",
    "https://a:b@example.com/",
    "ftp://example.com/",
    "\u2603",
)
SECONDS = (
    0,
    1,
    -1,
    60,
    86_400,
    -62_135_596_800,
    -62_135_596_801,
    253_402_300_799,
    253_402_300_800,
    315_576_000_000,
    315_576_000_001,
    2**63 - 1,
    -(2**63),
)
NANOS = (0, 1, -1, 999_999_999, 1_000_000_000, 2**31 - 1, -(2**31))
MASKS: tuple[tuple[str, ...], ...] = (
    (),
    ("",),
    ("*",),
    ("*", "*"),
    ("nonsense",),
    ("id",),
    ("a.b.c.d.e.f",),
    ("\0",),
    ("x" * 1_000,),
    tuple(f"path{number}" for number in range(5_000)),
)
UNKNOWN_ENUMS = (-1, 99, 1_000_000, 2**31 - 1, -(2**31))

_NUMBERS: dict[int, tuple[Any, ...]] = {
    Kinds.CPPTYPE_INT32: INT32,
    Kinds.CPPTYPE_INT64: INT64,
    Kinds.CPPTYPE_UINT32: UINT32,
    Kinds.CPPTYPE_UINT64: UINT64,
    Kinds.CPPTYPE_DOUBLE: FLOATS,
    Kinds.CPPTYPE_FLOAT: FLOATS,
    Kinds.CPPTYPE_BOOL: (False, True),
}


def scalars(field: Any) -> tuple[Any, ...]:
    """Edge values for one value of `field`, which is not a message."""
    if field.cpp_type == Kinds.CPPTYPE_ENUM:
        return (*(value.number for value in field.enum_type.values), *UNKNOWN_ENUMS)
    if field.cpp_type != Kinds.CPPTYPE_STRING:
        return _NUMBERS[field.cpp_type]
    if field.type == Kinds.TYPE_BYTES:
        return BYTES
    return (*STRINGS, *ADDRESSES, *IDS, *MALFORMED_IDS, *URLS)


def on_the_wire(serialised: bytes) -> bytes:
    """`serialised` with lone surrogates in the place of their marks."""
    return serialised.replace(SURROGATE_MARK.encode(), b"\xed\xa0\x80")
