"""The router's settings."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from mesh_core.settings import (
    AuthSettings,
    ClusterSettings,
    DatabaseSettings,
    EtcdSettings,
    ServerSettings,
    TelemetrySettings,
)


class ProcessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The section `router`; `workers` is the number of processes that share the port."""

    workers: Annotated[int, Meta(ge=1, le=64)] = 1


class RouterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The sections that the router reads."""

    server: ServerSettings
    database: DatabaseSettings
    etcd: EtcdSettings
    cluster: ClusterSettings
    auth: AuthSettings
    telemetry: TelemetrySettings
    router: ProcessSettings = ProcessSettings()
