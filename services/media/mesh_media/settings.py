"""All settings of the media service's process."""

from __future__ import annotations

import msgspec

from mesh_core.settings import (
    AuthSettings,
    ClusterSettings,
    DatabaseSettings,
    EtcdSettings,
    ObjectsSettings,
    SecretsSettings,
    ServerSettings,
    TelemetrySettings,
)
from mesh_media.processing.settings import MediaSettings


class MediaServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A section for each part; those of `mesh_core` are common to all services."""

    media: MediaSettings
    server: ServerSettings
    database: DatabaseSettings
    etcd: EtcdSettings
    objects: ObjectsSettings
    cluster: ClusterSettings
    auth: AuthSettings
    secrets: SecretsSettings
    telemetry: TelemetrySettings
