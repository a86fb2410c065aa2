"""`mesh doctor`: the parts of the mesh: whether each serves, and which release it is."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import TypeAlias

import grpc
from grpc.aio import AioRpcError, Channel
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh_cli.commands.doctor.findings import Finding, good, judged, warning, wrong
from mesh_cli.commands.metrics_pages import Page, read_pages
from mesh_cli.commands.running_parts import RunningPart
from mesh_core.process.service import service_version
from mesh_core.process.surroundings import fits
from mesh_core.rpc.health import READINESS, REASON_KEY
from mesh_core.rpc.tls import ChannelTls

HEALTH_SECONDS = 3.0
_Status: TypeAlias = health_pb2.HealthCheckResponse.ServingStatus.ValueType
LOG = "Its log says why: in STATE/logs with `mesh up`, else docker logs or journalctl."


async def with_versions(parts: Mapping[str, RunningPart]) -> dict[str, RunningPart]:
    """The same, with the releases that their metrics pages tell."""
    pages = await read_pages({name: part.metrics for name, part in parts.items()})
    return {name: replace(part, version=_version(pages[name])) for name, part in parts.items()}


async def part_findings(parts: Mapping[str, RunningPart], tls: ChannelTls | None) -> list[Finding]:
    """What each answers when it is asked for its health, and whether all are of one release."""
    health = await asyncio.gather(*(_health(name, part, tls) for name, part in parts.items()))
    return [
        *health,
        *version_findings({name: part.version for name, part in parts.items()}, service_version()),
    ]


def version_findings(versions: Mapping[str, str], ours: str) -> list[Finding]:
    """An old part beside a new one; `versions` by part, empty where it is not known."""
    parts: dict[str, list[str]] = defaultdict(list)
    for name, version in versions.items():
        if version:
            parts[version].append(name)
    if len(parts) > 1:
        seen = "; ".join(f"{version}: {', '.join(parts[version])}" for version in sorted(parts))
        if all(fits(*pair) for pair in combinations(parts, 2)):
            return [warning("versions", seen, "Finish the upgrade: docs/deploy.md has the order.")]
        return [wrong("versions", seen, "Parts that start refuse this: go one minor release at a time.")]
    if parts and ours not in parts:
        seen = f"the parts run {next(iter(parts))}, this command is {ours}"
        return [warning("versions", seen, "Use the command of the release that runs.")]
    return [good("versions", f"all parts run {ours}")] if parts else []


async def _health(name: str, part: RunningPart, tls: ChannelTls | None) -> Finding:
    subject = name.removesuffix(f" {part.address}")
    async with _open(part, tls) as channel:
        try:
            status, reason = await _readiness(channel)
        except AioRpcError as error:
            return wrong(subject, f"{part.address} {error.code().name}", LOG)
    seen = f"{part.address} {health_pb2.HealthCheckResponse.ServingStatus.Name(status)} {part.version}"
    serving = status == health_pb2.HealthCheckResponse.SERVING
    return judged(subject, serving, seen.rstrip() + (f": {reason}" if reason else ""), LOG)


async def _readiness(channel: Channel, service: str = READINESS) -> tuple[_Status, str]:
    """The status, and why where it is not ready. Early releases know of the server as a whole only."""
    request = health_pb2.HealthCheckRequest(service=service)
    call = health_pb2_grpc.HealthStub(channel).Check(request, timeout=HEALTH_SECONDS)
    try:
        answer = await call
    except AioRpcError as error:
        if service and error.code() is grpc.StatusCode.NOT_FOUND:
            return await _readiness(channel, "")
        raise
    trailing = await call.trailing_metadata()
    return answer.status, next((str(value) for key, value in trailing if key == REASON_KEY), "")


def _open(part: RunningPart, tls: ChannelTls | None) -> Channel:
    options = (("grpc.enable_http_proxy", 0),)
    if tls is None:
        return grpc.aio.insecure_channel(part.address, options=options)
    credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)
    return grpc.aio.secure_channel(part.address, credentials, options=options)


def _version(page: Page | None) -> str:
    if page is None:
        return ""
    return next((labels.get("version", "") for labels, _ in page.find("mesh_build_info")), "")
