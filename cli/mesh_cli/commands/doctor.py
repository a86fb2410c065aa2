"""`mesh doctor`: checks what a mesh on this machine needs, and the mesh that runs on it."""

from __future__ import annotations

import asyncio
import json
import resource
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import grpc
import typer
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console

from mesh_cli.commands.findings import Finding
from mesh_cli.commands.output import AsJson
from mesh_cli.commands.target import local_mesh
from mesh_cli.embedded.etcd import PROGRAM as ETCD
from mesh_cli.embedded.postgres import PROGRAM as POSTGRES
from mesh_cli.embedded.redis import PROGRAM as REDIS
from mesh_core.errors import MeshError

EXIT_PROBLEM = 1
FREE_BYTES = 2_000_000_000
OPEN_FILES = 8_192
HEALTH_SECONDS = 3.0


def doctor(
    context: typer.Context,
    whatsapp: Annotated[
        bool, typer.Option("--whatsapp", help="Check the way to WhatsApp, too: it is asked for a web page.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check this machine, and the mesh that runs on it."""
    findings = [_python(), _open_files(), _disk(context.obj.state_directory), *_programs()]
    if whatsapp:
        from mesh_cli.commands.whatsapp_checks import whatsapp_checks

        findings += whatsapp_checks()
    if mesh := local_mesh(context.obj):
        addresses = {name: part.address for name, part in mesh.parts.items()}
        findings += asyncio.run(_parts(addresses))
    else:
        findings.append(Finding("mesh", True, "none runs on this machine", ""))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        _show(findings)
    if not all(finding.good for finding in findings):
        sys.exit(EXIT_PROBLEM)


def _show(findings: list[Finding]) -> None:
    console = Console()
    for finding in findings:
        mark = "[green]✓[/]" if finding.good else "[bold red]✗[/]"
        console.print(f"{mark} {finding.subject:<14} {finding.seen}", highlight=False, soft_wrap=True)
        if not finding.good and finding.remedy:
            console.print(f"  [yellow]{finding.remedy}[/]", highlight=False, soft_wrap=True)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding("Python", sys.version_info >= (3, 11), version, "Python 3.11 or newer is needed.")


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    remedy = "Each account online needs one: raise the limit with `ulimit -n 65536`."
    return Finding("open files", soft >= OPEN_FILES, f"{soft} (at most {hard})", remedy)


def _disk(state: Path) -> Finding:
    place = next(parent for parent in (state, *state.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    return Finding("disk", free >= FREE_BYTES, f"{free / 1e9:.0f} GB free at {place}", "2 GB are needed.")


def _programs() -> list[Finding]:
    return [_program(name, find) for name, find in _PROGRAMS.items()]


def _program(name: str, find: Callable[[], Path]) -> Finding:
    try:
        return Finding(name, True, str(find()))
    except MeshError as error:
        return Finding(name, False, str(error), "Install sessionmesh again, or put the server on PATH.")


async def _parts(addresses: dict[str, str]) -> list[Finding]:
    return list(await asyncio.gather(*(_part(name, address) for name, address in addresses.items())))


async def _part(name: str, address: str) -> Finding:
    async with grpc.aio.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        try:
            answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=HEALTH_SECONDS)
        except grpc.aio.AioRpcError as error:
            return Finding(
                name, False, f"{address} {error.code().name}", "See its log in the state directory."
            )
    serving = answer.status == health_pb2.HealthCheckResponse.SERVING
    seen = f"{address} {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}"
    return Finding(name, serving, seen, "See its log in the state directory.")


_PROGRAMS: dict[str, Callable[[], Path]] = {
    "etcd": ETCD.path,
    "Postgres": POSTGRES.path,
    "Redis": REDIS.path,
}
