"""How files are received, processed and kept: section `media` of the service's settings."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from mesh_core.settings import Positive, Seconds


class MediaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`defaults.toml` of this service says what each setting means; sizes are in bytes."""

    max_bytes: Positive = 100 * 1024 * 1024
    max_pixels: Positive = 100_000_000
    image_side: Positive = 1600
    image_quality: Annotated[int, Meta(ge=1, le=100)] = 75
    image_workers: Positive = 2
    spool: str = ""
    delete_grace_seconds: Seconds = 60.0
    upload_seconds: Seconds = 3600.0
    sweep_seconds: Annotated[float, Meta(gt=0)] = 15.0
