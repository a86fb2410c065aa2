"""Settings of a session-node."""

from __future__ import annotations

import msgspec

from mesh_core.settings import (
    AuthSettings,
    ClusterSettings,
    DatabaseSettings,
    EtcdSettings,
    LimitsSettings,
    NetworkSettings,
    NodeSettings,
    RedisSettings,
    SecretsSettings,
    ServerSettings,
    TelemetrySettings,
)
from mesh_session_node.context.context import SessionSettings
from mesh_session_node.drivers.simulated.driver import SimnetSettings
from mesh_session_node.drivers.whatsapp_web.settings import WhatsappWebSettings


class MediaServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where media are; empty: as the cluster's directory says."""

    address: str = ""


class SessionNodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `python -m mesh_session_node` reads."""

    server: ServerSettings
    database: DatabaseSettings
    etcd: EtcdSettings
    cluster: ClusterSettings
    node: NodeSettings
    session: SessionSettings
    simnet: SimnetSettings
    whatsapp_web: WhatsappWebSettings
    mediaservice: MediaServiceSettings
    auth: AuthSettings
    secrets: SecretsSettings
    telemetry: TelemetrySettings
    redis: RedisSettings = RedisSettings()
    limits: LimitsSettings = LimitsSettings()
    network: NetworkSettings = NetworkSettings()
