"""What the router is set up with."""

from __future__ import annotations

import msgspec

from mesh_core.settings import (
    AuthSettings,
    ClusterSettings,
    DatabaseSettings,
    EtcdSettings,
    ServerSettings,
    TelemetrySettings,
)


class RouterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The sections that the router reads."""

    server: ServerSettings
    database: DatabaseSettings
    etcd: EtcdSettings
    cluster: ClusterSettings
    auth: AuthSettings
    telemetry: TelemetrySettings
