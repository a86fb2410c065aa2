"""Pictures of people and groups."""

from __future__ import annotations

from dataclasses import dataclass

MAX_PICTURE_BYTES = 1024 * 1024
"""No picture of a person or group is larger; a driver answers a larger one as it does none."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as the network has it. `picture_id` is the network's, and changes with the picture; `data` is
    the file, mostly a JPEG.
    """

    picture_id: str
    data: bytes
