"""Whether a process would be open to others on its network: plain text, or no password, beyond this machine.

Such settings are refused at the start, unless MESH_NETWORK_PRIVATE says that nobody else is on that network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mesh_core.settings import (
    BadSettings,
    DatabaseSettings,
    EtcdSettings,
    LinksSettings,
    ObjectsSettings,
    RedisSettings,
    ServerSettings,
)

ENCRYPTED = frozenset({"require", "verify-ca", "verify-full"})
"""Values of Postgres' `sslmode` with which nothing is told in plain text."""


def refuse_exposed(settings: Any) -> None:
    """Raises `BadSettings` for the first thing that others could read or do without saying who they are."""
    network = getattr(settings, "network", None)
    if network is not None and network.private:
        return
    for variable, problem in exposed(settings):
        raise BadSettings(
            f"{variable} {problem}; or MESH_NETWORK_PRIVATE=true, where nobody else is on that network"
        )


def exposed(settings: Any) -> Iterator[tuple[str, str]]:
    """The variables to blame, each with what is wrong and what would be right."""
    for name, check in _CHECKS.items():
        section = getattr(settings, name, None)
        if section is not None:
            yield from check(section)


def is_local(host: str) -> bool:
    """Whether a host is this machine: loopback, or nothing, as where a socket is a file."""
    host = host.strip("[]")
    if host in ("", "localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _server(server: ServerSettings) -> Iterator[tuple[str, str]]:
    if not server.tls_certificate and not is_local(_host(server.listen)):
        yield (
            "MESH_SERVER_LISTEN",
            f"would serve in plain text at {server.listen}: set MESH_SERVER_TLS_CERTIFICATE and _KEY",
        )
    if not is_local(_host(server.metrics_listen)):
        yield (
            "MESH_SERVER_METRICS_LISTEN",
            f"would show metrics to everybody at {server.metrics_listen}: listen on loopback",
        )


def _links(links: LinksSettings) -> Iterator[tuple[str, str]]:
    if links.listen and not is_local(_host(links.listen)):
        yield (
            "MESH_LINKS_LISTEN",
            f"would serve in plain text at {links.listen}: listen on loopback, behind a server with TLS",
        )


def _database(database: DatabaseSettings) -> Iterator[tuple[str, str]]:
    for key in ("url", "direct_url"):
        url = urlsplit(getattr(database, key))
        if is_local(url.hostname or ""):
            continue
        asked = parse_qs(url.query)
        variable = f"MESH_DATABASE_{key.upper()}"
        if not url.password and not {"password", "passfile", "sslcert"} & asked.keys():
            yield variable, f"has no password for the server at {url.hostname}: add one"
        if not ENCRYPTED & set(asked.get("sslmode", ())):
            yield variable, f"may speak plain text with {url.hostname}: add ?sslmode=verify-full"


def _etcd(etcd: EtcdSettings) -> Iterator[tuple[str, str]]:
    beyond = [each for each in etcd.endpoints if not each.startswith("unix:") and not is_local(_host(each))]
    if not beyond:
        return
    if not (etcd.ca or etcd.certificate):
        yield "MESH_ETCD_ENDPOINTS", f"would speak plain text with {beyond[0]}: set MESH_ETCD_CA"
    if not (etcd.certificate or etcd.username):
        yield (
            "MESH_ETCD_ENDPOINTS",
            f"would ask {beyond[0]} as nobody: set MESH_ETCD_CERTIFICATE and _KEY, or _USERNAME",
        )


def _redis(redis: RedisSettings) -> Iterator[tuple[str, str]]:
    url = urlsplit(redis.url)
    if url.scheme == "unix" or is_local(url.hostname or ""):
        return
    if not url.password:
        yield "MESH_REDIS_URL", f"has no password for the server at {url.hostname}: add one"
    if url.scheme != "rediss":
        yield "MESH_REDIS_URL", f"would speak plain text with {url.hostname}: use rediss://"


def _objects(objects: ObjectsSettings) -> Iterator[tuple[str, str]]:
    for name, store in {"": objects, **objects.others}.items():
        endpoint = urlsplit(store.endpoint)
        if endpoint.scheme == "http" and not is_local(endpoint.hostname or ""):
            variable = "MESH_OBJECTS_OTHERS" if name else "MESH_OBJECTS_ENDPOINT"
            yield variable, f"would send files in plain text to {endpoint.hostname}: use https://"


def _host(address: str) -> str:
    return address.rpartition(":")[0]


_CHECKS: dict[str, Callable[[Any], Iterator[tuple[str, str]]]] = {
    "server": _server,
    "links": _links,
    "database": _database,
    "etcd": _etcd,
    "redis": _redis,
    "objects": _objects,
}
"""By the section of the settings."""
