"""How large files a network takes."""

from __future__ import annotations

import pytest

from mesh_core.errors import InvalidField
from mesh_session_node.drivers.interface.media_limits import CLOUD_API, LINKED_DEVICE, MediaLimits
from sessionmesh.v1 import media_pb2


@pytest.mark.parametrize(
    ("network", "kind", "animated", "most"),
    [
        (LINKED_DEVICE, "image", False, 16_000_000),
        (LINKED_DEVICE, "sticker", False, 100_000),
        (LINKED_DEVICE, "sticker", True, 500_000),
        (CLOUD_API, "image", False, 5_000_000),
        (CLOUD_API, "video", False, 16_000_000),
        (CLOUD_API, "document", False, 100_000_000),
        (CLOUD_API, "sticker", True, 500_000),
    ],
    ids=lambda value: "" if isinstance(value, MediaLimits) else str(value),
)
def test_a_file_over_the_networks_limit_is_refused_with_limit_and_size(
    network: MediaLimits, kind: str, animated: bool, most: int
) -> None:
    network.check(kind, media_pb2.Media(size_bytes=most, animated=animated))
    with pytest.raises(
        InvalidField, match=f"has {most + 1} bytes; the network takes at most {most}"
    ) as refused:
        network.check(kind, media_pb2.Media(size_bytes=most + 1, animated=animated))
    assert refused.value.field == f"content.{kind}.media.media_id"
