"""`mesh doctor`: which servers the settings name, and what is asked of each."""

from __future__ import annotations

import tomllib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from mesh_cli.commands.doctor.collector import check_collector
from mesh_cli.commands.doctor.etcd import check_etcd
from mesh_cli.commands.doctor.findings import Finding, good, in_time, judged, wrong
from mesh_cli.commands.doctor.objects import check_objects
from mesh_cli.commands.doctor.postgres import check_postgres
from mesh_cli.commands.doctor.redis import check_redis
from mesh_cli.commands.running_parts import ClusterInEtcd, RunningPart
from mesh_cli.up.stack import SIMULATOR
from mesh_core.process.exposure import exposed
from mesh_core.settings import (
    BadSettings,
    DatabaseSettings,
    NetworkSettings,
    ObjectsSettings,
    RedisSettings,
    SecretsSettings,
    TelemetrySettings,
    read,
)

Parts = Awaitable[dict[str, RunningPart] | None]
Check = Awaitable[list[Finding]]


class _MasterKeys(SecretsSettings, frozen=True, kw_only=True):
    """Those of parts that open credentials; the others have none."""

    master_key: str = ""

    def __post_init__(self) -> None:
        if self.master_key:
            super().__post_init__()


class _Postgres(msgspec.Struct, frozen=True, kw_only=True):
    database: DatabaseSettings
    secrets: _MasterKeys


class _Redis(msgspec.Struct, frozen=True, kw_only=True):
    redis: RedisSettings


class _Objects(msgspec.Struct, frozen=True, kw_only=True):
    objects: ObjectsSettings


class _Collector(msgspec.Struct, frozen=True, kw_only=True):
    telemetry: TelemetrySettings


class _Network(msgspec.Struct, frozen=True, kw_only=True):
    network: NetworkSettings


@dataclass(frozen=True, slots=True)
class Named:
    """A server that the settings name: how it is called, its settings, and what asks it."""

    subject: str
    settings: Any
    ask: Callable[[Any, Parts], Check]


def named_servers(environment: Mapping[str, str]) -> tuple[list[Named], list[Finding]]:
    """The servers that environment and file name, and what is wrong with how they do."""
    try:
        file = _file(environment)
    except (OSError, ValueError) as error:
        return [], [wrong("settings", f"MESH_CONFIG cannot be read: {error}", "Mend the file.")]
    named: list[Named] = []
    findings: list[Finding] = []
    for (section, key), (subject, kind, ask) in _SERVERS.items():
        if not (_variable(section, key, environment) or file.get(section, {}).get(key)):
            continue
        try:
            settings = read(kind, environment)
        except BadSettings as error:
            findings.append(wrong("settings", str(error), "The parts end with exit code 64 for it."))
            continue
        named.append(Named(subject, settings, ask))
    missing = [
        subject for subject, _, _ in _SERVERS.values() if subject not in {one.subject for one in named}
    ]
    if missing and not findings:
        findings.append(good("servers", f"not named, so not asked: {', '.join(missing)}"))
    return named, [*findings, *_exposures(named, environment)]


async def ask(server: Named, parts: Parts) -> list[Finding]:
    """What is found of a server within a few seconds; `parts` are those of the mesh, once they are known."""
    return await in_time(server.subject, server.ask(server.settings, parts))


def _exposures(named: list[Named], environment: Mapping[str, str]) -> Iterator[Finding]:
    """What others on the network could read or do."""
    try:
        private = read(_Network, environment).network.private
    except BadSettings as error:
        yield wrong("settings", str(error), "The parts end with exit code 64 for it.")
        return
    remedy = "The parts refuse it; MESH_NETWORK_PRIVATE=true where nobody else is on that network."
    for server in named:
        for variable, problem in exposed(server.settings):
            yield judged("network", private, f"{variable} {problem}", remedy)


def _file(environment: Mapping[str, str]) -> dict[str, Any]:
    path = environment.get("MESH_CONFIG")
    return tomllib.loads(Path(path).read_text(encoding="utf-8")) if path else {}


def _variable(section: str, key: str, environment: Mapping[str, str]) -> str | None:
    given = environment.get(f"MESH_{section}_{key}".upper())
    if given is None and section == "telemetry":
        return environment.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return given


async def _processes(parts: Parts) -> int | None:
    """How many use the database: all but the simulated network."""
    found = await parts
    return sum(name.partition(" ")[0] != SIMULATOR for name in found) if found is not None else None


_SERVERS: dict[tuple[str, str], tuple[str, type[msgspec.Struct], Callable[[Any, Parts], Check]]] = {
    ("etcd", "endpoints"): ("etcd", ClusterInEtcd, lambda own, _: check_etcd(own.etcd, own.cluster.name)),
    ("database", "url"): (
        "Postgres",
        _Postgres,
        lambda own, parts: check_postgres(own.database, own.secrets, partial(_processes, parts)),
    ),
    ("redis", "url"): ("Redis", _Redis, lambda own, _: check_redis(own.redis)),
    ("objects", "url"): ("objects", _Objects, lambda own, _: check_objects(own.objects)),
    ("telemetry", "otlp_endpoint"): ("collector", _Collector, lambda own, _: check_collector(own.telemetry)),
}
"""By the setting that names a server: how it is called, what it reads, and who asks it."""
