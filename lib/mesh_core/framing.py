"""Frames on a byte stream: each is its length (4 bytes, big endian) and that many bytes."""

from __future__ import annotations

from collections.abc import Callable

MAX_FRAME_BYTES = 1 << 20
"""Largest frame either side accepts, without its length."""
LENGTH_BYTES = 4
"""Of the length before each frame."""


class FrameTooLarge(ValueError):
    """The peer announced a frame above the limit; the stream cannot be read on."""


def encode(body: bytes) -> bytes:
    """`body` as a frame."""
    return len(body).to_bytes(4, "big") + body


class FrameDecoder:
    """Cuts a byte stream into frames; holds the incomplete one at the end.

    With `skipped`, a frame above the limit is passed over without being held, and that is called with its
    size.
    """

    __slots__ = ("_limit", "_rest", "_skipped", "_to_skip")

    def __init__(self, limit: int = MAX_FRAME_BYTES, skipped: Callable[[int], None] | None = None) -> None:
        self._limit = limit
        self._rest = b""
        self._skipped = skipped
        self._to_skip = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies that `data` completes, in order; raises `FrameTooLarge` where it does not skip."""
        if self._to_skip:
            data, self._to_skip = data[self._to_skip :], max(0, self._to_skip - len(data))
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        bodies = []
        while end - at >= 4:
            stop = at + 4 + int.from_bytes(data[at : at + 4], "big")
            if (size := stop - at - 4) > self._limit:
                if self._skipped is None:
                    raise FrameTooLarge(f"a frame of {size} bytes; at most {self._limit} are allowed")
                self._skipped(size)
                self._to_skip, at = max(0, stop - end), min(stop, end)
                continue
            if stop > end:
                break
            bodies.append(data[at + 4 : stop])
            at = stop
        self._rest = data[at:]
        return bodies
