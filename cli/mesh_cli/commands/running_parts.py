"""The processes of a mesh that run: as `mesh up` says on this machine, or as etcd knows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from mesh_cli.up.state import MeshFile
from mesh_core.errors import MeshError
from mesh_core.etcd import Etcd
from mesh_core.etcd.discovery import ServiceInfo
from mesh_core.ownership.keys import ClusterKeys, NodeInfo
from mesh_core.settings import ClusterSettings, EtcdSettings


class ClusterInEtcd(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of etcd, and of whose keys are asked for there."""

    etcd: EtcdSettings
    cluster: ClusterSettings


@dataclass(frozen=True, slots=True)
class RunningPart:
    """Where a process serves, and has its metrics page; what nobody told is empty."""

    address: str
    metrics: str = ""
    version: str = ""
    tls: bool = False


def local_parts(mesh: MeshFile) -> dict[str, RunningPart]:
    """The parts that `mesh up` runs on this machine, by name."""
    return {name: RunningPart(part.address, part.metrics) for name, part in mesh.parts.items()}


async def registered_parts(settings: ClusterInEtcd) -> dict[str, RunningPart] | None:
    """The parts that live as etcd knows them, by name; None when it does not answer."""
    etcd, keys = Etcd(settings.etcd), ClusterKeys(settings.cluster.name)
    root = keys.root + b"services/"
    found: dict[str, RunningPart] = {}
    try:
        for entry in (await etcd.prefix(keys.nodes)).kvs:
            node = msgspec.json.decode(entry.value, type=NodeInfo)
            found[node.id] = RunningPart(node.address, node.metrics, node.version)
        services = [
            (
                entry.key.removeprefix(root).partition(b"/")[0].decode(errors="replace"),
                msgspec.json.decode(entry.value, type=ServiceInfo),
            )
            for entry in (await etcd.prefix(root)).kvs
        ]
    except (MeshError, msgspec.MsgspecError):
        return None
    finally:
        await etcd.close()
    return found | named_services(services)


def named_services(services: Sequence[tuple[str, ServiceInfo]]) -> dict[str, RunningPart]:
    """Services by kind and address. Workers of a router share these: each is named by the port of its metrics
    page, too, which it keeps, so that one's name is never another's when that has ended.
    """
    sharing = Counter((kind, service.address) for kind, service in services)
    found: dict[str, RunningPart] = {}
    for kind, service in services:
        name = f"{kind} {service.address}"
        if sharing[kind, service.address] > 1:
            name += f" {service.metrics.rpartition(':')[2] or service.id}"
        found[name] = RunningPart(service.address, service.metrics, service.version, service.tls)
    return found
