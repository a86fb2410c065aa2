"""How large a file a network takes, by what it is sent as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mesh_core.errors import InvalidField
from sessionmesh.v1 import media_pb2

_MB, _KB = 1_000_000, 1_000


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """Bytes at most, by the names of Content's fields; those that are not named have no limit of the
    network's. `animated_sticker` is for stickers that move.
    """

    most: Mapping[str, int]
    animated_sticker: int

    def check(self, kind: str, media: media_pb2.Media) -> None:
        """Raises `InvalidField` for a file that the network would refuse as this kind of content."""
        most = self.most.get(kind)
        if kind == "sticker" and media.animated:
            most = self.animated_sticker
        if most is not None and media.size_bytes > most:
            raise InvalidField(
                f"content.{kind}.media.media_id",
                f"has {media.size_bytes} bytes; the network takes at most {most} as {kind}",
            )


LINKED_DEVICE = MediaLimits(
    {
        "image": 16 * _MB,
        "video": 16 * _MB,
        "audio": 16 * _MB,
        "voice_note": 16 * _MB,
        "document": 2_000 * _MB,
        "sticker": 100 * _KB,
    },
    animated_sticker=500 * _KB,
)
"""What WhatsApp takes of phones and of devices that are linked to one."""

CLOUD_API = MediaLimits(
    {
        "image": 5 * _MB,
        "video": 16 * _MB,
        "audio": 16 * _MB,
        "voice_note": 16 * _MB,
        "document": 100 * _MB,
        "sticker": 100 * _KB,
    },
    animated_sticker=500 * _KB,
)
"""What WhatsApp takes over its Cloud API."""
