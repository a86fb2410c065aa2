"""Typed, frozen settings: sections, filled from defaults, a file and the environment."""

from mesh_core.settings.call_limits import (
    CALL_CLASSES,
    CallLimit,
    Limits,
    LimitsSettings,
    parse_limits,
)
from mesh_core.settings.loader import EXIT_BAD_SETTINGS, BadSettings, load, read
from mesh_core.settings.sections import (
    MAIN_STORE,
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
    StoreSettings,
    TelemetrySettings,
)

__all__ = [
    "CALL_CLASSES",
    "EXIT_BAD_SETTINGS",
    "MAIN_STORE",
    "AuthSettings",
    "BadSettings",
    "CallLimit",
    "ClusterSettings",
    "DatabaseSettings",
    "EtcdSettings",
    "InvalidSetting",
    "Limits",
    "LimitsSettings",
    "NodeSettings",
    "ObjectsSettings",
    "Positive",
    "RedisSettings",
    "Seconds",
    "SecretsSettings",
    "ServerSettings",
    "StoreSettings",
    "TelemetrySettings",
    "load",
    "parse_limits",
    "read",
]
