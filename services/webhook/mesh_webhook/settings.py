"""All settings of the webhook service's process."""

from __future__ import annotations

import msgspec

from mesh_core.settings import (
    AuthSettings,
    ClusterSettings,
    DatabaseSettings,
    EtcdSettings,
    LimitsSettings,
    NetworkSettings,
    RedisSettings,
    SecretsSettings,
    ServerSettings,
    TelemetrySettings,
)
from mesh_webhook.deliveries.settings import WebhookSettings


class WebhookServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A section for each part; those of `mesh_core` are common to all services."""

    server: ServerSettings
    database: DatabaseSettings
    etcd: EtcdSettings
    cluster: ClusterSettings
    auth: AuthSettings
    secrets: SecretsSettings
    telemetry: TelemetrySettings
    webhook: WebhookSettings
    redis: RedisSettings = RedisSettings()
    limits: LimitsSettings = LimitsSettings()
    network: NetworkSettings = NetworkSettings()
