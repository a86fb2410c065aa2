"""A photograph to send: the user's, or a freely licensed one at the size a phone makes."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pyvips

from mesh_core.errors import FailedPrecondition

PHONE_PIXELS = 4000
"""Longer side of a 12-megapixel picture."""


@dataclass(frozen=True, slots=True)
class Photo:
    """JPEG or other bytes, a file name, and where it is from, for people."""

    data: bytes
    file_name: str
    origin: str


def load_photo(chosen: Path | None) -> Photo:
    """`chosen`, or the default; raises `FailedPrecondition` when neither can be had."""
    if chosen is not None:
        return Photo(chosen.read_bytes(), chosen.name, f"{chosen} ({chosen.stat().st_size / 1e6:.1f} MB)")
    source = _packaged()
    picture = pyvips.Image.new_from_file(str(source))
    scale = PHONE_PIXELS / max(picture.width, picture.height)
    enlarged = picture.resize(scale, kernel="cubic")
    data: bytes = enlarged.jpegsave_buffer(Q=92)
    origin = (
        f"Grace Hopper's portrait (public domain, shipped by matplotlib), enlarged from "
        f"{picture.width}x{picture.height} to {enlarged.width}x{enlarged.height}, the size a phone makes "
        f"({len(data) / 1e6:.1f} MB)"
    )
    return Photo(data, "portrait.jpg", origin)


def _packaged() -> Path:
    """Found without importing matplotlib, which would take a second."""
    package = find_spec("matplotlib")
    if package is None or not package.submodule_search_locations:
        raise FailedPrecondition(
            "no photograph here: give one with --photo FILE, or install sessionmesh[demo]",
            "RESOURCE_NOT_FOUND",
        )
    return Path(package.submodule_search_locations[0]) / "mpl-data" / "sample_data" / "grace_hopper.jpg"
