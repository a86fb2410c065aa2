"""`mesh doctor`: everything that has to be asked, all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from mesh_cli.commands.doctor.findings import Finding, good, in_time, warning, wrong
from mesh_cli.commands.doctor.parts import part_findings, with_versions
from mesh_cli.commands.doctor.servers import Named, Parts, ask
from mesh_cli.commands.fleet.show import alarm_text
from mesh_cli.commands.running_parts import ClusterInEtcd, RunningPart, local_parts, registered_parts
from mesh_cli.commands.target import Target
from mesh_cli.up.state import MeshFile
from mesh_client import MeshCallError, PermissionDenied, Tls, Unauthenticated, connect
from mesh_core.rpc.tls import ChannelTls
from mesh_core.settings import BadSettings, ServerSettings, read
from sessionmesh.admin.v1 import fleet_pb2

ROUTER_SECONDS = 3.0


class _Server(msgspec.Struct, frozen=True, kw_only=True):
    server: ServerSettings


async def ask_all(
    named: Sequence[Named], environment: Mapping[str, str], target: Target, mesh: MeshFile | None
) -> list[Finding]:
    """What the named servers, the parts of the mesh and its router answer; a dead one holds up no other."""
    parts = asyncio.create_task(_parts(named, mesh))
    address = target.address or (mesh.address if mesh else "")
    key = target.api_key or (mesh.admin_key if mesh else "")
    found = await asyncio.gather(
        *(ask(server, asyncio.shield(parts)) for server in named),
        in_time("parts", _part_findings(asyncio.shield(parts), environment)),
        *([in_time("calls", _router(address, key, target.tls))] if address and key else []),
    )
    return [finding for some in found for finding in some]


async def _parts(named: Sequence[Named], mesh: MeshFile | None) -> dict[str, RunningPart] | None:
    """Those of the mesh that runs here, else those that etcd knows; None when nobody says."""
    if mesh is not None:
        return await with_versions(local_parts(mesh))
    for server in named:
        if isinstance(server.settings, ClusterInEtcd):
            return await registered_parts(server.settings)
    return None


async def _part_findings(parts: Parts, environment: Mapping[str, str]) -> list[Finding]:
    known = await parts
    if known is None:
        return [good("parts", "not asked: no mesh runs on this machine, and no etcd says where they are")]
    if not known:
        return [warning("parts", "etcd knows of none", "Do they run, with the same MESH_CLUSTER_NAME?")]
    try:
        tls = ChannelTls.of(read(_Server, environment).server)
    except BadSettings as error:
        return [wrong("settings", str(error), "The parts end with exit code 64 for it.")]
    if tls is None and any(part.tls for part in known.values()):
        remedy = "Give it MESH_SERVER_TLS_CERTIFICATE and _KEY (and _CLIENT_CA) of a part."
        return [warning("parts", f"not asked: these {len(known)} take TLS connections only", remedy)]
    return await part_findings(known, tls)


async def _router(address: str, key: str, tls: Tls | None) -> list[Finding]:
    """The way that callers take, and the alarms that are on."""
    try:
        async with connect(address, key, tls=tls, transport="plain") as client:
            fleet = await client.fleet.GetCapacity(fleet_pb2.GetCapacityRequest(), timeout=ROUTER_SECONDS)
    except PermissionDenied:
        return [good("calls", f"{address} answers; an administrator's key would show alarms, too")]
    except Unauthenticated as error:
        return [wrong("calls", f"{address} {error.message}", "Check --api-key (MESH_API_KEY).")]
    except MeshCallError as error:
        return [wrong("calls", f"{address} {error}", "See what is said of its parts; check --address.")]
    seen = f"{address} answers: {len(fleet.nodes)} session-nodes, {fleet.active:,} of {fleet.max:,} accounts"
    remedy = "docs/fleet.md has what to do for each alarm."
    return [good("calls", seen), *(warning("alarm", alarm_text(alarm), remedy) for alarm in fleet.alarms)]
