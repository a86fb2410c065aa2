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
    InvalidSetting,
    LimitsSettings,
    NetworkSettings,
    RedisSettings,
    ServerSettings,
    TelemetrySettings,
)
from mesh_router.accounts.fields import SendCeilingSettings


class ProcessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The section `router`; `workers` is the number of processes that share the port."""

    workers: Annotated[int, Meta(ge=1, le=64)] = 1


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The section `retention`: days that contents and events are kept, and the longest that a tenant can
    keep them. For as long whole days of messages and events stand.
    """

    days: Annotated[int, Meta(ge=1, le=3650)] = 7
    longest_days: Annotated[int, Meta(ge=1, le=3650)] = 7

    def __post_init__(self) -> None:
        if self.longest_days < self.days:
            raise InvalidSetting("longest_days", "must be at least days")


class RouterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The sections that the router reads."""

    server: ServerSettings
    database: DatabaseSettings
    etcd: EtcdSettings
    cluster: ClusterSettings
    auth: AuthSettings
    telemetry: TelemetrySettings
    router: ProcessSettings = ProcessSettings()
    retention: RetentionSettings = RetentionSettings()
    sendceiling: SendCeilingSettings = SendCeilingSettings()
    redis: RedisSettings = RedisSettings()
    limits: LimitsSettings = LimitsSettings()
    network: NetworkSettings = NetworkSettings()
