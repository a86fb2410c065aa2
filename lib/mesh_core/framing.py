"""Frames on a byte stream: each is its length (4 bytes, big endian) and that many bytes."""

from __future__ import annotations

MAX_FRAME_BYTES = 1 << 20
"""Largest frame either side accepts, without its length."""


class FrameTooLarge(ValueError):
    """The peer announced a frame above the limit; the stream cannot be read on."""


def encode(body: bytes) -> bytes:
    """`body` as a frame."""
    return len(body).to_bytes(4, "big") + body


class FrameDecoder:
    """Cuts a byte stream into frames; holds the incomplete one at the end."""

    __slots__ = ("_limit", "_rest")

    def __init__(self, limit: int = MAX_FRAME_BYTES) -> None:
        self._limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that `data` completes, in order; raises `FrameTooLarge`."""
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        bodies = []
        while end - at >= 4:
            stop = at + 4 + int.from_bytes(data[at : at + 4], "big")
            if stop - at - 4 > self._limit:
                raise FrameTooLarge(f"a frame of {stop - at - 4} bytes; at most {self._limit} are allowed")
            if stop > end:
                break
            bodies.append(data[at + 4 : stop])
            at = stop
        self._rest = data[at:]
        return bodies
