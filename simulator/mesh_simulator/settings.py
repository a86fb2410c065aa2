"""Settings of the simulated network."""

from __future__ import annotations

import msgspec

from mesh_core.settings import (
    AuthSettings,
    ClusterSettings,
    EtcdSettings,
    InvalidSetting,
    NetworkSettings,
    Positive,
    Seconds,
    ServerSettings,
    TelemetrySettings,
)


class SimulatorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the network listens and keeps its data, and how it behaves until somebody changes that."""

    listen: str = "127.0.0.1:7650"
    state: str = ""
    delivered_after_seconds: Seconds = 0.05
    read_after_seconds: Seconds | None = None
    accept_after_seconds: Seconds | None = None
    qr_seconds: Seconds = 20.0
    pair_timeout_seconds: Seconds = 120.0
    linger_seconds: Seconds = 2.0
    max_blob_bytes: Positive = 100 * 1024 * 1024
    max_blobs_bytes: Positive = 512 * 1024 * 1024
    whatsapp_web_network: str = ""

    def __post_init__(self) -> None:
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise InvalidSetting("listen", "must be host:port")
        if self.qr_seconds <= 0:
            raise InvalidSetting("qr_seconds", "must be above 0")


class RegistrySettings(EtcdSettings, frozen=True, kw_only=True):
    """The etcd where routers look for SimulatorService; without endpoints it is not registered."""

    endpoints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.endpoints:
            super().__post_init__()


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `python -m mesh_simulator` reads."""

    simulator: SimulatorSettings
    server: ServerSettings
    etcd: RegistrySettings
    cluster: ClusterSettings
    auth: AuthSettings
    telemetry: TelemetrySettings
    network: NetworkSettings = NetworkSettings()
