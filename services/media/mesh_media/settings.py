"""Settings of the media service."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from mesh_core.settings import (
    AuthSettings,
    ClusterSettings,
    DatabaseSettings,
    EtcdSettings,
    InvalidSetting,
    LimitsSettings,
    LinksSettings,
    NetworkSettings,
    ObjectsSettings,
    Positive,
    RedisSettings,
    Seconds,
    ServerSettings,
    TelemetrySettings,
)


class MediaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How files are received, processed and kept. `defaults.toml` explains each setting."""

    max_bytes: Positive = 100 * 1024 * 1024
    max_pixels: Positive = 100_000_000
    image_side: Positive = 1600
    image_quality: Annotated[int, Meta(ge=1, le=100)] = 75
    image_workers: Positive = 2
    film_workers: Positive = 1
    spool: str = ""
    spool_bytes: Annotated[int, Meta(ge=0)] = 0
    fetches: Positive = 16
    fetch_allow_http: bool = False
    fetch_allow_private_addresses: bool = False
    delete_grace_seconds: Seconds = 60.0
    upload_seconds: Seconds = 3600.0
    sweep_seconds: Annotated[float, Meta(gt=0)] = 15.0

    def __post_init__(self) -> None:
        if 0 < self.spool_bytes < self.max_bytes:
            raise InvalidSetting("spool_bytes", "must be 0, or at least MESH_MEDIA_MAX_BYTES")


class MediaServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A section for each part; those of `mesh_core` are common to all services."""

    media: MediaSettings
    server: ServerSettings
    database: DatabaseSettings
    etcd: EtcdSettings
    objects: ObjectsSettings
    cluster: ClusterSettings
    auth: AuthSettings
    telemetry: TelemetrySettings
    links: LinksSettings = LinksSettings()
    redis: RedisSettings = RedisSettings()
    limits: LimitsSettings = LimitsSettings()
    network: NetworkSettings = NetworkSettings()
