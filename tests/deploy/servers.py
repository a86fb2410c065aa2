"""What is known of other people's servers that a deployment starts: programs, options, variables, ports."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from tests.deploy.deployment import Service


@dataclass(frozen=True, slots=True)
class Server:
    """A kind of server, known by its image. `options` are those that our files may use.

    `program` is its first word, empty where the image has one; `backing`: callers' data are in it.
    """

    program: str
    options: frozenset[str]
    variables: frozenset[str]
    ports: Callable[[Service], set[int]]
    backing: bool = False
    health: tuple[str, ...] = ()
    """How its health check begins; empty when its image has nothing to check it with."""


def server_of(service: Service) -> Server | None:
    """The kind, by the image's name without registry and version."""
    return SERVERS.get(service.image.partition("@")[0].rpartition("/")[2].partition(":")[0])


def option_names(service: Service) -> list[str]:
    """The names of what the command is given: options, and what follows `-c` of Postgres."""
    words = service.command
    names = [word.partition("=")[0] for word in words if word.startswith("-")]
    return names + [after.partition("=")[0] for word, after in pairwise(words) if word == "-c"]


def urls(service: Service, option: str) -> list[str]:
    """The addresses host:port in an option's value."""
    found = [word.partition("=")[2] for word in service.command if word.startswith(f"{option}=")]
    return re.findall(r"https?://([^,/]+:\d+)", ",".join(found))


def _fixed(*ports: int) -> Callable[[Service], set[int]]:
    return lambda _service: set(ports)


def _etcd_ports(service: Service) -> set[int]:
    return {int(address.rpartition(":")[2]) for address in urls(service, "--listen-client-urls")}


def _valkey_ports(service: Service) -> set[int]:
    words = service.command
    return {int(after) for word, after in pairwise(words) if word == "--port"}


def _seaweed_ports(service: Service) -> set[int]:
    return {int(word.partition("=")[2]) for word in service.command if word.startswith("-s3.port=")}


def _collector_ports(service: Service) -> set[int]:
    return {int(service.environment.get("COLLECTOR_LISTEN", ":0").rpartition(":")[2])}


def _options(text: str) -> frozenset[str]:
    return frozenset(text.split())


SERVERS = {
    "etcd": Server(
        "etcd",
        _options(
            "--name --data-dir --listen-client-urls --advertise-client-urls --listen-peer-urls "
            "--initial-advertise-peer-urls --initial-cluster --auto-compaction-retention "
            "--quota-backend-bytes"
        ),
        frozenset(),
        _etcd_ports,
        backing=True,
        health=("etcdctl", "endpoint", "health"),
    ),
    "postgres": Server(
        "postgres",
        _options(
            "-c max_connections shared_buffers effective_cache_size max_wal_size wal_level "
            "wal_compression timezone"
        ),
        _options("POSTGRES_USER POSTGRES_DB POSTGRES_PASSWORD_FILE POSTGRES_INITDB_ARGS"),
        _fixed(5432),
        backing=True,
        health=("pg_isready",),
    ),
    "valkey": Server(
        "valkey-server",
        _options("--bind --port --save --maxmemory --maxmemory-policy"),
        frozenset(),
        _valkey_ports,
        backing=True,
        health=("sh", "-c"),
    ),
    "seaweedfs": Server(
        "weed",
        _options(
            "-logtostderr -ip -ip.bind -dir -s3 -s3.port -s3.config -master.volumeSizeLimitMB -volume.max "
            "-volume.preStopSeconds"
        ),
        frozenset(),
        _seaweed_ports,
        backing=True,
        health=("wget",),
    ),
    "opentelemetry-collector-contrib": Server(
        "", _options("--config"), _options("COLLECTOR_LISTEN COLLECTOR_TRACES"), _collector_ports
    ),
    "all-in-one": Server("", frozenset(), _options("MEMORY_MAX_TRACES"), _fixed(4317, 16686)),
    "prometheus": Server(
        "",
        _options(
            "--config.file --storage.tsdb.path --storage.tsdb.retention.time --storage.tsdb.retention.size"
        ),
        frozenset(),
        _fixed(9090),
        health=("wget",),
    ),
    "alertmanager": Server(
        "", _options("--config.file --storage.path"), frozenset(), _fixed(9093), health=("wget",)
    ),
    "node-exporter": Server(
        "", _options("--path.procfs --path.sysfs --path.rootfs"), frozenset(), _fixed(9100)
    ),
    "grafana": Server(
        "",
        frozenset(),
        _options(
            "GF_SECURITY_ADMIN_PASSWORD__FILE GF_ANALYTICS_REPORTING_ENABLED GF_ANALYTICS_CHECK_FOR_UPDATES"
        ),
        _fixed(3000),
        health=("wget",),
    ),
}
