"""The sections that services have in common; each checks what it is given.

A section's `__post_init__` raises `InvalidSetting`. Its defaults, with what each key means, are in
`defaults.toml` beside this module.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from ipaddress import ip_address, ip_network
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from mesh_core.settings.secrets import Section

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
    max_message_bytes: Positive = 4 * 1024 * 1024
    drain_seconds: Seconds = 10.0
    peer_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    trusted_proxies: tuple[str, ...] = ()

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
        for network in self.trusted_proxies:
            _check_network("trusted_proxies", network)
        for key in ("tls_certificate", "tls_key", "tls_client_ca"):
            _check_readable(key, getattr(self, key))


class NetworkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator says of the network that the process is on."""

    private: bool = False
    """Nobody else can listen or connect there: plain text and servers without passwords will do."""


class DatabaseSettings(Section, frozen=True, kw_only=True):
    """Postgres."""

    url: str
    direct_url: str = ""
    pool_size: Positive = 10
    pgbouncer: bool = False

    def __post_init__(self) -> None:
        _check_url("url", self.url, ("postgresql", "postgres"))
        if self.direct_url:
            _check_url("direct_url", self.direct_url, ("postgresql", "postgres"))


class EtcdSettings(Section, frozen=True, kw_only=True):
    """etcd: any of `endpoints` (host:port, or unix:/path of a socket) will do."""

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
            if not endpoint.startswith("unix:/"):
                _check_address("endpoints", endpoint)
        if bool(self.certificate) != bool(self.key):
            raise InvalidSetting("key" if self.certificate else "certificate", "must be set too")
        for key in ("ca", "certificate", "key"):
            _check_readable(key, getattr(self, key))


class RedisSettings(Section, frozen=True, kw_only=True):
    """Redis, for what may be lost; without a URL calls are not limited."""

    url: str = ""

    def __post_init__(self) -> None:
        if self.url:
            _check_url("url", self.url, ("redis", "rediss", "unix"))


class StoreSettings(Section, frozen=True, kw_only=True):
    """One object store: `file:///folder` or `s3://bucket`."""

    url: str
    endpoint: str = ""
    public_endpoint: str = ""
    addressing: Literal["", "path", "virtual"] = ""
    ca_file: str = ""
    access_key: str = ""
    secret_key: str = ""
    session_token: str = ""
    region: str = "us-east-1"
    encryption: Literal["", "s3", "kms"] = ""
    kms_key: str = ""

    def __post_init__(self) -> None:
        _check_url("url", self.url, ("file", "s3"))
        if self.endpoint:
            _check_url("endpoint", self.endpoint, ("http", "https"))
        if self.public_endpoint:
            _check_url("public_endpoint", self.public_endpoint, ("http", "https"))
        if bool(self.access_key) != bool(self.secret_key):
            raise InvalidSetting("secret_key", "goes with access_key: set both, or none")
        if self.session_token and not self.access_key:
            raise InvalidSetting("session_token", "needs access_key and secret_key")
        if self.encryption and self.url.startswith("file:"):
            raise InvalidSetting("encryption", "is S3's: a directory has none")
        if self.kms_key and self.encryption != "kms":
            raise InvalidSetting("kms_key", "needs encryption kms")


MAIN_STORE = "main"
"""The name of the object store that ObjectsSettings itself is."""


class ObjectsSettings(StoreSettings, frozen=True, kw_only=True):
    """The object stores: this one is named `main`, and `others` have names of their own."""

    others: dict[str, StoreSettings] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        StoreSettings.__post_init__(self)
        for name in self.others:
            if name == MAIN_STORE or not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,31}", name):
                raise InvalidSetting(
                    "others", "must have names of 1 to 32 of a-z, 0-9 and '-', none of them main"
                )


class LinksSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the media service serves download links over HTTP, and what they begin with."""

    listen: str = ""
    public_url: str = ""

    def __post_init__(self) -> None:
        if self.listen:
            _check_address("listen", self.listen)
        if self.public_url:
            _check_url("public_url", self.public_url, ("http", "https"))


class ClusterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which cluster this process belongs to; the first element of its etcd keys."""

    name: str = "sessionmesh"
    default_driver: Literal["simulated", "whatsapp_web", "whatsapp_cloud"] = "simulated"
    """The network of accounts that are created without naming one."""

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


class AuthSettings(Section, frozen=True, kw_only=True):
    """Keys that are not in the database; an empty one grants nothing."""

    bootstrap_key: str = ""
    mesh_key: str = ""

    def __post_init__(self) -> None:
        for key in ("bootstrap_key", "mesh_key"):
            if getattr(self, key) and len(getattr(self, key)) < 16:
                raise InvalidSetting(key, "must have at least 16 characters")
        if self.mesh_key and self.mesh_key == self.bootstrap_key:
            raise InvalidSetting("mesh_key", "must differ from bootstrap_key")


class SecretsSettings(Section, frozen=True, kw_only=True):
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


def is_every_address(listen: str) -> bool:
    """Whether host:port is every address of the machine, such as 0.0.0.0:7600: none to be reached at."""
    try:
        return ip_address(listen.rpartition(":")[0].strip("[]")).is_unspecified
    except ValueError:
        return False


def _check_address(key: str, address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise InvalidSetting(key, "must be host:port")
    if "/" in host:  # as other programs have etcd's; gRPC would look the whole of it up as a name, for ever
        raise InvalidSetting(key, "must be host:port, without http://")
    if ":" in host and not re.fullmatch(r"\[[^\[\]]+\]", host):
        raise InvalidSetting(key, "must be host:port, and an address of IPv6 in brackets: [fd00::1]:7600")


def _check_network(key: str, network: str) -> None:
    try:
        ip_network(network)
    except ValueError:
        raise InvalidSetting(key, "must be a list of networks such as 10.0.0.0/8 or ::1/128") from None


def _check_url(key: str, url: str, schemes: tuple[str, ...]) -> None:
    allowed = " or ".join(f"{scheme}://..." for scheme in schemes)
    if not url:
        raise InvalidSetting(key, f"is required: {allowed}")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in schemes or not rest:
        raise InvalidSetting(key, f"must be {allowed}")
    try:
        for host in urlsplit(url).netloc.rpartition("@")[2].split(","):
            _ = urlsplit(f"//{host}").port
    except ValueError:  # a / in a password makes a port of what is before it
        raise InvalidSetting(
            key,
            "cannot be read as a URL: in it, @ / : ? # and % of a user or password are written %40 %2F %3A "
            "%3F %23 %25",
        ) from None


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
