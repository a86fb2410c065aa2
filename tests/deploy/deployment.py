"""A deployment as its files describe it, of whatever kind: what runs, with what, in which order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

MESH_IMAGE = "sessionmesh"
"""How the image of the mesh itself begins."""


class Need(Enum):
    """What must have happened to another service before one starts."""

    STARTED = "service_started"
    HEALTHY = "service_healthy"
    COMPLETED = "service_completed_successfully"


@dataclass(frozen=True, slots=True)
class Mount:
    """What a service finds at `target`: `source` is a file or folder, or the name of a volume."""

    source: str
    target: str
    read_only: bool = False
    is_volume: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """How a service's replicas are replaced: `drains` when the old one ends before the new one starts."""

    parallelism: int
    drains: bool
    rolls_back: bool


@dataclass(frozen=True, slots=True)
class Service:
    """One service. `replicas` is 0 for one on every machine; `health` is a command, or nothing."""

    name: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, Need] = field(default_factory=dict)
    health: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    networks: tuple[str, ...] = ()
    published: Mapping[int, int] = field(default_factory=dict)
    """Ports of the machine, by the port inside."""
    pause_seconds: float = 0.0
    """From when it is to stop until it is told so."""
    stop_seconds: float = 10.0
    """From the signal to stop until it is killed."""
    memory_bytes: int = 0
    user: str = ""
    hostname: str = ""
    """Another name that others reach it by; of the first replica."""
    read_only: bool = False
    ends: bool = False
    """Whether it does something once, and ends."""
    replicas: int = 1
    update: Update | None = None

    @property
    def is_mesh(self) -> bool:
        """Whether it is a part of the mesh, or one of its commands."""
        return self.image.rpartition("/")[2].startswith(MESH_IMAGE)

    @property
    def is_part(self) -> bool:
        """Whether it is a part of the mesh that serves."""
        return self.is_mesh and not self.ends


@dataclass(frozen=True, slots=True)
class Deployment:
    """All services. `inside` are the networks without a way out; `orders`: each waits for its needs."""

    services: Mapping[str, Service]
    inside: frozenset[str]
    orders: bool = True

    def start_order(self) -> list[Service]:
        """Each after all that it needs. Raises `ValueError` where two wait for each other."""
        ordered: dict[str, Service] = {}
        while len(ordered) < len(self.services):
            ready = [
                service
                for name, service in self.services.items()
                if name not in ordered and all(need in ordered for need in service.needs)
            ]
            if not ready:
                raise ValueError(
                    f"these wait for each other: {sorted(self.services.keys() - ordered.keys())}"
                )
            ordered |= {service.name: service for service in ready}
        return list(ordered.values())
