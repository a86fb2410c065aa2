"""What a fault may have left behind: sockets, transactions, keys, processes, files."""

from __future__ import annotations

import os
from collections import Counter

import psutil

from tests.faults.fleet.mesh import CLUSTER, FaultMesh

MORE_DESCRIPTORS = 20
"""A process may hold so many more than at the start: connections to nodes and servers come and go."""


async def leftovers(mesh: FaultMesh, descriptors_before: dict[str, int]) -> list[str]:
    """A sentence for each thing that should have gone, while the mesh runs."""
    findings = await _of_postgres(mesh) + await _of_etcd(mesh)
    for part in mesh.all_parts():
        if any(one.status() == psutil.STATUS_ZOMBIE for one in part.family()):
            findings.append(f"{part.name} has a child that nobody reaped")
    for name, now in descriptors(mesh).items():
        before = descriptors_before.get(name, now)
        if now > before + MORE_DESCRIPTORS:
            findings.append(f"{name} has {now} open files and sockets, {before} at the start")
    return findings


async def leftovers_of_stopped(mesh: FaultMesh) -> list[str]:
    """The same once all parts have stopped: only the table may be left, and evidence that will expire."""
    findings = await _of_postgres(mesh)
    table, evidence = f"/{CLUSTER}/assignment".encode(), f"/{CLUSTER}/dead/".encode()
    for kv in (await mesh.client.prefix(b"/")).kvs:
        if kv.key != table and not (kv.key.startswith(evidence) and kv.lease):
            findings.append(f"etcd still has {kv.key.decode()}")
    findings += [f"{path} is left" for path in mesh.temporary_files()]
    return findings


def descriptors(mesh: FaultMesh) -> dict[str, int]:
    """How many files and sockets each part has open, with all its processes."""
    return {part.name: sum(one.num_fds() for one in part.family()) for part in mesh.all_parts()}


async def _of_postgres(mesh: FaultMesh) -> list[str]:
    rows = await mesh.database.fetch(
        "SELECT client_port, state, pid = pg_backend_pid() AS me FROM pg_stat_activity"
        " WHERE datname = current_database() AND backend_type = 'client backend'"
    )
    ports = _local_ports(mesh)
    findings = [
        f"Postgres has a connection of nobody's, from port {row['client_port']}"
        for row in rows
        if row["client_port"] not in ports
    ]
    findings += [
        f"a connection from port {row['client_port']} is {row['state']}"
        for row in rows
        if not row["me"] and "in transaction" in (row["state"] or "")
    ]
    return findings


async def _of_etcd(mesh: FaultMesh) -> list[str]:
    prefix = f"/{CLUSTER}/services/".encode()
    found = Counter(
        kv.key.removeprefix(prefix).split(b"/")[0] for kv in (await mesh.client.prefix(prefix)).kvs
    )
    findings = [
        f"{count} {kind.decode()} services are registered" for kind, count in found.items() if count > 1
    ]
    nodes = (await mesh.placement()).nodes.keys()
    if nodes != {node.name for node in mesh.nodes.values() if node.running}:
        findings.append(f"the nodes registered in etcd are {sorted(nodes)}")
    return findings


def _local_ports(mesh: FaultMesh) -> set[int]:
    """Local TCP ports of the mesh's processes, and of this one, where relays are."""
    family = [one for part in mesh.all_parts() for one in part.family()]
    ports = set()
    for process in [*family, psutil.Process(os.getpid())]:
        try:
            ports |= {connection.laddr.port for connection in process.net_connections("tcp")}
        except psutil.NoSuchProcess:
            continue
    return ports
