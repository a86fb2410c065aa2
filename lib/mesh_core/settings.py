"""Settings: frozen structs made of sections, filled from defaults, a file and the environment, in that order.

A service composes its own struct from the sections below and calls `load`:

    class RouterSettings(msgspec.Struct, frozen=True, kw_only=True):
        server: ServerSettings
        database: DatabaseSettings
        telemetry: TelemetrySettings

Section `server`, key `listen` is the environment variable MESH_SERVER_LISTEN. The file that MESH_CONFIG names
is TOML with one table per section. A service's own sections may have a commented `defaults.toml` beside its
settings module.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import sys
import tomllib
import typing
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import msgspec
from msgspec import Meta

EXIT_BAD_SETTINGS = 64
"""EX_USAGE of sysexits."""

S = TypeVar("S")
Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0)]


class InvalidSetting(ValueError):
    """Raised by a section's `__post_init__`: `key` is the field to blame, `allowed` says what it must be."""

    def __init__(self, key: str, allowed: str) -> None:
        super().__init__(f"{key} {allowed}")
        self.key = key
        self.allowed = allowed


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where and how a service answers gRPC."""

    listen: str = "127.0.0.1:0"
    advertise: str = ""
    metrics_listen: str = "127.0.0.1:0"
    tls_certificate: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    max_message_bytes: Positive = 8 * 1024 * 1024
    drain_seconds: Seconds = 10.0
    exchange_port: Annotated[int, Meta(ge=0, le=65535)] = 0

    def __post_init__(self) -> None:
        _check_address("listen", self.listen)
        _check_address("metrics_listen", self.metrics_listen)
        if self.advertise:
            _check_address("advertise", self.advertise)
        if bool(self.tls_certificate) != bool(self.tls_key):
            missing = "tls_key" if self.tls_certificate else "tls_certificate"
            raise InvalidSetting(missing, "must be set too: certificate and key come together")
        if self.tls_client_ca and not self.tls_certificate:
            raise InvalidSetting("tls_certificate", "must be set when tls_client_ca is")
        for key in ("tls_certificate", "tls_key", "tls_client_ca"):
            _check_readable(key, getattr(self, key))


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Postgres."""

    url: str
    direct_url: str = ""
    pool_size: Positive = 10
    pgbouncer: bool = False

    def __post_init__(self) -> None:
        _check_url("url", self.url, ("postgresql", "postgres"))
        if self.direct_url:
            _check_url("direct_url", self.direct_url, ("postgresql", "postgres"))


class EtcdSettings(msgspec.Struct, frozen=True, kw_only=True):
    """etcd: any of `endpoints` (host:port) will do."""

    endpoints: tuple[str, ...]
    username: str = ""
    password: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise InvalidSetting("endpoints", "is required: a comma list of host:port")
        for endpoint in self.endpoints:
            _check_address("endpoints", endpoint)
        if bool(self.certificate) != bool(self.key):
            raise InvalidSetting("key" if self.certificate else "certificate", "must be set too")
        for key in ("ca", "certificate", "key"):
            _check_readable(key, getattr(self, key))


class RedisSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Redis, for what may be lost."""

    url: str

    def __post_init__(self) -> None:
        _check_url("url", self.url, ("redis", "rediss", "unix"))


class ObjectsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The object store: `file:///folder` or `s3://bucket`."""

    url: str
    endpoint: str = ""
    access_key: str = ""
    secret_key: str = ""
    region: str = "us-east-1"

    def __post_init__(self) -> None:
        _check_url("url", self.url, ("file", "s3"))
        if self.endpoint:
            _check_url("endpoint", self.endpoint, ("http", "https"))


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which cluster this process belongs to; the first element of its etcd keys."""

    name: str = "sessionmesh"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,62}", self.name):
            raise InvalidSetting("name", "must be 1 to 63 of a-z, 0-9, '.', '_' and '-'")


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A session-node's name and size; an empty id is made up at every start."""

    id: str = ""
    capacity: Positive = 5000
    standby: bool = False
    """Begin as a spare that owns nothing until an operator makes it active."""

    def __post_init__(self) -> None:
        if self.id and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", self.id):
            raise InvalidSetting("id", "must be 1 to 63 letters, digits, '.', '_' and '-'")


class AuthSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Keys that are not in the database; an empty one grants nothing."""

    bootstrap_key: str = ""
    mesh_key: str = ""

    def __post_init__(self) -> None:
        for key in ("bootstrap_key", "mesh_key"):
            if getattr(self, key) and len(getattr(self, key)) < 16:
                raise InvalidSetting(key, "must have at least 16 characters")
        if self.mesh_key and self.mesh_key == self.bootstrap_key:
            raise InvalidSetting("mesh_key", "must differ from bootstrap_key")


class SecretsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The key that wraps the tenants' data keys, and the ones before it; each 32 bytes in base64."""

    master_key: str
    previous_master_keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_key("master_key", self.master_key)
        for previous in self.previous_master_keys:
            _check_key("previous_master_keys", previous)


class TelemetrySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Traces and logs."""

    otlp_endpoint: str = ""
    sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.05
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"

    def __post_init__(self) -> None:
        if self.otlp_endpoint:
            _check_url("otlp_endpoint", self.otlp_endpoint, ("http", "https"))


class BadSettings(Exception):
    """A setting is missing or wrong; the text is one line that names its variable."""


def load(settings: type[S]) -> S:
    """The settings of this process, or one line on stderr and exit 64."""
    try:
        return read(settings, os.environ)
    except BadSettings as error:
        _exit(str(error))


def read(settings: type[S], environment: Mapping[str, str]) -> S:
    """Like `load`, from a given environment; raises `BadSettings`."""
    layers = [_toml(files("mesh_core") / "defaults.toml", "defaults.toml")]
    beside = files(settings.__module__.rpartition(".")[0] or "mesh_core") / "defaults.toml"
    if settings.__module__ != __name__ and beside.is_file():
        layers.append(_toml(beside, "defaults.toml"))
    if path := environment.get("MESH_CONFIG"):
        layers.append(_toml(Path(path), f"MESH_CONFIG={path}"))
    sections = typing.get_type_hints(settings, include_extras=True)
    _refuse_unknown(layers[-1], sections, environment)
    filled = {name: _section(name, section, layers, environment) for name, section in sections.items()}
    return settings(**filled)


_LISTS = (tuple, list)
_ALIASES = {"MESH_TELEMETRY_OTLP_ENDPOINT": "OTEL_EXPORTER_OTLP_ENDPOINT"}
_SECRET = re.compile(r"(^|_)(key|keys|password|secret)$")
_PATHS = frozenset({"tls_key", "etcd.key"})


def _section(
    name: str, section: type[msgspec.Struct], layers: list[dict[str, Any]], environment: Mapping[str, str]
) -> msgspec.Struct:
    values: dict[str, Any] = {}
    for key, kind in typing.get_type_hints(section, include_extras=True).items():
        variable = f"MESH_{name}_{key}".upper()
        for layer in layers:
            if key in layer.get(name, ()):
                values[key] = layer[name][key]
        given = environment.get(variable, environment.get(_ALIASES.get(variable, "")))
        if given is not None:
            values[key] = _split(given) if typing.get_origin(kind) in _LISTS else given.strip()
        if key in values:
            values[key] = _convert(name, key, values[key], kind)
    try:
        return section(**values)
    except InvalidSetting as error:
        raise BadSettings(_sentence(name, error.key, values.get(error.key, ""), error.allowed)) from None
    except TypeError:
        missing = next(key for key in section.__struct_fields__ if key not in values)
        raise BadSettings(_sentence(name, missing, "", "is required")) from None


def _convert(section: str, key: str, value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        allowed = str(error).partition(" - at ")[0].replace("`", "")
        if choices := typing.get_args(kind):
            allowed += (
                f" (allowed: {', '.join(map(str, choices))})" if typing.get_origin(kind) is Literal else ""
            )
        raise BadSettings(_sentence(section, key, value, f"is wrong: {allowed}")) from None


def _sentence(section: str, key: str, value: Any, problem: str) -> str:
    variable = f"MESH_{section}_{key}".upper()
    secret = _SECRET.search(key) and key not in _PATHS and f"{section}.{key}" not in _PATHS
    if value in ("", ()) or secret:
        return f"{variable} {problem}"
    shown = ",".join(map(str, value)) if isinstance(value, _LISTS) else str(value)
    shown = re.sub(r"(://[^:@/]*):[^@/]*@", r"\1:***@", shown)
    return f"{variable}={shown!r} {problem}"


def _refuse_unknown(
    config: dict[str, Any], sections: dict[str, type[msgspec.Struct]], environment: Mapping[str, str]
) -> None:
    for name, section in sections.items():
        known = section.__struct_fields__
        prefix = f"MESH_{name}_".upper()
        given = {variable[len(prefix) :].lower() for variable in environment if variable.startswith(prefix)}
        for key in sorted(given.union(config.get(name, ())).difference(known)):
            allowed = ", ".join(f"{prefix}{field.upper()}" for field in known)
            raise BadSettings(f"{prefix}{key.upper()} is not a setting (allowed: {allowed})")


def _toml(path: Any, named: str) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSettings(f"{named} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"{named} is not TOML: {error}") from None


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _check_address(key: str, address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise InvalidSetting(key, "must be host:port")


def _check_url(key: str, url: str, schemes: tuple[str, ...]) -> None:
    allowed = " or ".join(f"{scheme}://..." for scheme in schemes)
    if not url:
        raise InvalidSetting(key, f"is required: {allowed}")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in schemes or not rest:
        raise InvalidSetting(key, f"must be {allowed}")


def _check_readable(key: str, path: str) -> None:
    if path and not os.access(path, os.R_OK):
        raise InvalidSetting(key, "must be a file that this process can read")


def _check_key(key: str, text: str) -> None:
    try:
        good = len(base64.b64decode(text, validate=True)) == 32
    except binascii.Error:
        good = False
    if not good:
        raise InvalidSetting(key, "is required: 32 bytes in base64")


def _exit(message: str) -> NoReturn:
    sys.stderr.write(f"{message}\n")
    sys.exit(EXIT_BAD_SETTINGS)
