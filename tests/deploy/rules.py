"""What must hold of a deployment before anything of it is started; `findings` says what does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mesh_core.process.exposure import refuse_exposed
from mesh_core.process.start_checks import refuse_stranger
from mesh_core.settings import BadSettings
from tests.deploy import parts, servers
from tests.deploy.deployment import Deployment, Need, Service

DOCKERFILE = Path(__file__).parents[2] / "deploy" / "docker" / "Dockerfile"
BEYOND_DRAIN_SECONDS = 15.0
"""What a part gets after its drain to close what is open, before it is killed."""
_EXPOSE = re.compile(r"^EXPOSE (.*)$", re.MULTILINE)
EXPOSED = frozenset(map(int, _EXPOSE.findall(DOCKERFILE.read_text())[0].split()))
"""The ports that the image says its parts listen on; Prometheus and network policies rely on them."""
CALLED = frozenset({7600})
"""Of these, what callers call."""
RESTARTED_ALONE = frozenset({"session-node", "router"})
"""Parts of which one is replaced after the other."""


def findings(deployment: Deployment, config: Path) -> list[str]:
    """One sentence for each thing that is wrong. `config` is the file that MESH_CONFIG names in it."""
    return [
        f"{service.name}: {finding}"
        for service in deployment.services.values()
        for finding in _of_service(deployment, service, config)
    ]


def _of_service(deployment: Deployment, service: Service, config: Path) -> Iterator[str]:
    yield from _of_mesh(deployment, service, config) if service.is_mesh else _of_server(deployment, service)
    yield from _order(deployment, service)
    if not service.memory_bytes:
        yield "has no limit of memory"
    listening = _listening(deployment, service, config)
    if service.published.keys() - (listening & CALLED if service.is_mesh else listening):
        yield f"publishes {sorted(service.published)}, where it does not listen"


def _of_mesh(deployment: Deployment, service: Service, config: Path) -> Iterator[str]:
    if refused := parts.refused_command(service.command):
        yield f"`mesh {' '.join(service.command)}`: {refused}"
        return
    if not service.read_only:
        yield "may write to its image"
    if service.command[0] == "secrets":
        for address in (word for word in service.command if ":" in word):
            host, _, port = address.rpartition(":")
            other = deployment.services.get(host)
            if other is None or int(port) not in _listening(deployment, other, config):
                yield f"names {address}, where nothing listens"
        return
    try:
        settings = parts.settings_of(service, _config(service, config))
        if service.is_part:
            refuse_stranger(settings)
            refuse_exposed(settings)
    except BadSettings as error:
        yield str(error)
        return
    yield from _references(deployment, service, settings, config)
    if service.is_part:
        yield from _of_part(deployment, service, settings)


def _of_part(deployment: Deployment, service: Service, settings: Any) -> Iterator[str]:
    server = settings.server
    # Who gives no order, Swarm, kills what is unhealthy: a server that is away is no reason to.
    if service.health != (("mesh-health",) if deployment.orders else ("mesh-health", "--of", "startup")):
        yield f"its health check is {service.health}"
    if service.stop_seconds < server.drain_seconds + BEYOND_DRAIN_SECONDS:
        yield f"is killed {service.stop_seconds:g} s after a drain of {server.drain_seconds:g} s began"
    host, _, port = server.advertise.rpartition(":")
    if host not in (service.name, service.hostname) or int(port) != parts.port(server.listen):
        yield f"tells others to reach it at {server.advertise}"
    if (
        parts.ports_of(settings)
        - EXPOSED
        - {parts.port(settings.simulator.listen) if _simulates(settings) else 0}
    ):
        yield f"listens on {sorted(parts.ports_of(settings))}, of which the image exposes {sorted(EXPOSED)}"
    if service.command[0] != "simulator" and not set(service.networks) - deployment.inside:
        yield "has no way out"
    if not _backing_networks(deployment) & set(service.networks):
        yield "is on no network with the backing servers"
    if service.update is not None and service.command[0] in RESTARTED_ALONE:
        if service.update.parallelism != 1 or not service.update.drains:
            yield "is not replaced one after the other, each after its drain"
        if not service.update.rolls_back:
            yield "stays at a release that does not serve"


def _of_server(deployment: Deployment, service: Service) -> Iterator[str]:
    server = servers.server_of(service)
    if server is None:
        yield f"nothing is known of {service.image}"
        return
    if ":" not in service.image.rpartition("/")[2] or service.image.endswith(":latest"):
        yield f"{service.image} has no version"
    if server.program and service.command[:1] != (server.program,):
        yield f"its command begins with {service.command[:1]} and not {server.program}"
    if unknown := set(servers.option_names(service)) - server.options:
        yield f"these are no options of it: {sorted(unknown)}"
    if unknown := service.environment.keys() - server.variables:
        yield f"these are no variables of it: {sorted(unknown)}"
    health = () if _must_be_found_unhealthy(deployment, service) else server.health
    if service.health[: len(health)] != health or bool(service.health) != bool(health):
        yield f"its health check is {service.health}"
    asked = {int(port) for port in re.findall(r"(?::|-p )(\d+)", " ".join(service.health))}
    if asked - server.ports(service):
        yield f"its health check asks {sorted(asked)}, where it does not listen"
    yield from _own_name(deployment, service)
    if server.backing and (set(service.networks) - deployment.inside or service.published):
        yield "can be reached from outside"
    told = [service.environment["COLLECTOR_TRACES"]] if "COLLECTOR_TRACES" in service.environment else []
    for address in (*servers.urls(service, "--advertise-client-urls"), *told):
        yield from _reaches(deployment, service, address, Path())
    for option in ("--initial-cluster", "--initial-advertise-peer-urls"):
        for address in servers.urls(service, option):
            yield from _reaches_member(deployment, address)


def _must_be_found_unhealthy(deployment: Deployment, service: Service) -> bool:
    """Whether it is healthy only once others have found it: Swarm names only who is healthy."""
    return not deployment.orders and bool(servers.urls(service, "--initial-cluster"))


def _own_name(deployment: Deployment, service: Service) -> Iterator[str]:
    """What is healthy only once it has found itself needs its name before others get to know it."""
    asked = [word.partition("=")[2] for word in service.command if word.startswith("-ip=")]
    if not deployment.orders and asked and asked != [service.hostname]:
        yield f"asks itself as {asked[0]}, which is not its hostname"


def _reaches_member(deployment: Deployment, address: str) -> Iterator[str]:
    """Members of an etcd find each other at ports of their own."""
    host, _, port = address.rpartition(":")
    other = deployment.services.get(host)
    listening = servers.urls(other, "--listen-peer-urls") if other else []
    if port not in {each.rpartition(":")[2] for each in listening}:
        yield f"asks {address}, and no member is there"


def _references(deployment: Deployment, service: Service, settings: Any, config: Path) -> Iterator[str]:
    """What a part needs to be at the addresses that it is given, and there before it."""
    needed = addresses_of(settings)
    for address in (*needed, *_other_addresses(deployment, settings)):
        yield from _reaches(deployment, service, address, config)
    if not deployment.orders:
        return
    for address in needed:
        host = address.rpartition(":")[0]
        other = deployment.services.get(host)
        if other is not None and _weakest(deployment, service, host) is not Need.HEALTHY:
            yield f"does not wait until {host} is healthy"
    if hasattr(settings, "database") and service.is_part:
        migrations = [other for other in deployment.services.values() if other.command == ("db", "migrate")]
        if not migrations or _weakest(deployment, service, migrations[0].name) is not Need.COMPLETED:
            yield "does not wait until the schema is migrated"


def _reaches(deployment: Deployment, service: Service, address: str, config: Path) -> Iterator[str]:
    host, _, port = address.rpartition(":")
    other = deployment.services.get(host)
    if other is None:
        yield f"asks {address}, and there is no {host}"
        return
    if int(port) not in _listening(deployment, other, config):
        yield f"asks {address}, where {host} does not listen"
    if other.name != service.name and not set(other.networks) & set(service.networks):
        yield f"asks {address}, on no network that both are on"


def _order(deployment: Deployment, service: Service) -> Iterator[str]:
    """Who makes files ends before anybody reads them."""
    if not deployment.orders:
        return
    read = {mount.source for mount in service.mounts if mount.is_volume and mount.read_only}
    for maker in deployment.services.values():
        made = {mount.source for mount in maker.mounts if mount.is_volume and not mount.read_only}
        if maker.ends and made & read and _weakest(deployment, service, maker.name) is not Need.COMPLETED:
            yield f"does not wait until {maker.name} has made {sorted(made & read)}"


def _weakest(deployment: Deployment, service: Service, name: str) -> Need | None:
    """What has happened to `name` for sure when the service starts; None when nothing has."""
    if name in service.needs:
        return service.needs[name]
    waited = (deployment.services[need] for need in service.needs if need in deployment.services)
    return next((found for other in waited if (found := _weakest(deployment, other, name))), None)


def addresses_of(settings: Any) -> list[str]:
    """Where a part finds what it cannot do without, host:port."""
    found = [_host_port(settings.database.url, 5432)] if hasattr(settings, "database") else []
    if hasattr(settings, "etcd"):
        found += settings.etcd.endpoints
    if getattr(settings, "redis", None) and settings.redis.url:
        found.append(_host_port(settings.redis.url, 6379))
    if getattr(settings, "objects", None) and settings.objects.endpoint:
        found.append(_host_port(settings.objects.endpoint, 80))
    return found


def _other_addresses(deployment: Deployment, settings: Any) -> list[str]:
    found = []
    if hasattr(settings, "telemetry") and settings.telemetry.otlp_endpoint:
        found.append(_host_port(settings.telemetry.otlp_endpoint, 4317))
    # Without the profile that has it there is no simulated network.
    if hasattr(settings, "simnet") and any(
        "simulator" in other.command for other in deployment.services.values()
    ):
        found.append(settings.simnet.address)
    return found


def _host_port(url: str, default: int) -> str:
    parsed = urlsplit(url)
    return f"{parsed.hostname}:{parsed.port or default}"


def _listening(deployment: Deployment, service: Service, config: Path) -> set[int]:
    if service.is_mesh:
        try:
            return (
                parts.ports_of(parts.settings_of(service, _config(service, config)))
                if service.is_part
                else set()
            )
        except (BadSettings, KeyError):
            return set()
    server = servers.server_of(service)
    return server.ports(service) if server else set()


def _config(service: Service, config: Path) -> Path | None:
    """The file that MESH_CONFIG names, if the service mounts what has it."""
    place = service.environment.get("MESH_CONFIG", "")
    mounted = any(place.startswith(mount.target) for mount in service.mounts)
    return config if place.endswith(config.name) and mounted else None


def _backing_networks(deployment: Deployment) -> set[str]:
    backing = [
        other for other in deployment.services.values() if (kind := servers.server_of(other)) and kind.backing
    ]
    return {network for other in backing for network in other.networks}


def _simulates(settings: Any) -> bool:
    return hasattr(settings, "simulator")
