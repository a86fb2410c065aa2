"""Typed, frozen settings: sections, filled from defaults, a file and the environment."""

from mesh_core.settings.loader import EXIT_BAD_SETTINGS, BadSettings, load, read
from mesh_core.settings.sections import (
    AuthSettings,
    ClusterSettings,
    DatabaseSettings,
    EtcdSettings,
    InvalidSetting,
    NodeSettings,
    ObjectsSettings,
    Positive,
    RedisSettings,
    Seconds,
    SecretsSettings,
    ServerSettings,
    TelemetrySettings,
)

__all__ = [
    "EXIT_BAD_SETTINGS",
    "AuthSettings",
    "BadSettings",
    "ClusterSettings",
    "DatabaseSettings",
    "EtcdSettings",
    "InvalidSetting",
    "NodeSettings",
    "ObjectsSettings",
    "Positive",
    "RedisSettings",
    "Seconds",
    "SecretsSettings",
    "ServerSettings",
    "TelemetrySettings",
    "load",
    "read",
]
