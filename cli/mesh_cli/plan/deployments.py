"""How many machines each way of deploying a mesh takes, and whether all accounts fit when one is lost."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from mesh_cli.plan import CONNECTS_PER_SECOND, MOST_PER_NODE, SPARE_NODES, Demand
from mesh_cli.plan.layout import ONE_MACHINE, PARTS, SERVER_MACHINES, connections, node_limit
from mesh_core.sizing.figures import POSTGRES_CPU, REST_CPU, ROUTER_CPU
from mesh_core.sizing.fleet import BUSY_SHARE, FleetNeed, fleet_need

SIZES = (100, 500, 2_000, 7_000)
"""Of the files in deploy/settings."""
SYSTEM_SHARE = 0.1
"""Of a machine's memory that stays for its system."""
RESERVED_CORES = 1.0
"""At least, on a machine of parts: for logins after a node's death, and media."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """`machines` of the size that was asked about; memory and cores are of the fullest of them, and `remark`
    says what becomes of accounts when one is lost, or what does not fit.
    """

    name: str
    machines: int
    memory: int
    cores: float
    connections: int
    fits: bool
    remark: str


def fleet_of(demand: Demand) -> FleetNeed:
    """Session-nodes, one of which may be lost."""
    return fleet_need(
        demand.figures,
        demand.accounts,
        demand.messages_per_second,
        MOST_PER_NODE,
        SPARE_NODES,
        CONNECTS_PER_SECOND,
    )


def deployments_of(demand: Demand) -> tuple[Deployment, ...]:
    """Compose, systemd, Swarm, Kubernetes."""
    fleet = fleet_of(demand)
    return (_one_machine(demand, fleet), _swarm(demand, fleet), _kubernetes(demand, fleet))


def settings_file(accounts: int) -> str:
    """The smallest file of deploy/settings that fits; "" when none does."""
    fitting = [size for size in SIZES if size >= accounts]
    return f"deploy/settings/{fitting[0]}-accounts.env" if fitting else ""


def postgres_cores(demand: Demand) -> float:
    """In the busiest hour, with room beside; all of them in one server."""
    return demand.messages_per_second * POSTGRES_CPU.value / BUSY_SHARE


def _parts_cores(demand: Demand) -> float:
    """Of routers, webhook, etcd and Redis."""
    return demand.messages_per_second * (ROUTER_CPU.value + REST_CPU.value) / BUSY_SHARE


def _one_machine(demand: Demand, fleet: FleetNeed) -> Deployment:
    memory = fleet.nodes * node_limit(fleet.node_bytes)
    memory += sum(each.replicas * each.memory for each in ONE_MACHINE.values())
    cores = fleet.nodes * fleet.node_cores + _parts_cores(demand) + postgres_cores(demand) + RESERVED_CORES
    fits = _fits(demand, memory, cores) and fleet.nodes <= 9
    name = "one machine (Compose, systemd)" if fleet.nodes == 2 else "one machine (systemd)"
    remark = "its loss takes all accounts offline until it is back, or restored"
    return Deployment(
        name,
        1,
        memory,
        cores,
        connections(fleet.nodes, ONE_MACHINE),
        fits,
        remark if fits else _too_small(demand, memory, cores),
    )


def _swarm(demand: Demand, fleet: FleetNeed) -> Deployment:
    """A session-node on each machine, with a share of the other parts; and three machines of servers."""
    spread = max(fleet.nodes, 2)
    memory = max(_beside_node(fleet, spread), *SERVER_MACHINES)
    cores = max(fleet.node_cores + _parts_cores(demand) / spread + RESERVED_CORES, postgres_cores(demand))
    fits = _fits(demand, memory, cores)
    remark = (
        f"of {spread} machines with session-nodes one may be lost; of {len(SERVER_MACHINES)} with servers, "
        "what was on that of Postgres or of files is restored"
    )
    return Deployment(
        "Swarm",
        spread + len(SERVER_MACHINES),
        memory,
        cores,
        connections(fleet.nodes, PARTS),
        fits,
        remark if fits else _too_small(demand, memory, cores),
    )


def _kubernetes(demand: Demand, fleet: FleetNeed) -> Deployment:
    """A session-node on each worker, or more workers where their memory needs it; one may be lost."""
    node = node_limit(fleet.node_bytes)
    rest = sum(each.replicas * each.memory for each in PARTS.values())
    usable = demand.machine_bytes * (1 - SYSTEM_SHARE)
    workers = max(fleet.nodes, ceil((fleet.working * node + rest) / usable) + 1, 3)
    memory = _beside_node(fleet, workers - 1)
    each = fleet.node_cores + _parts_cores(demand) / (workers - 1) + RESERVED_CORES
    cores = max(each, postgres_cores(demand))  # which is beside them, on such a machine
    fits = _fits(demand, memory, cores)
    remark = "workers, one of which may be lost; beside them Postgres, etcd, Redis and S3, as you run them"
    return Deployment(
        "Kubernetes",
        workers,
        memory,
        cores,
        connections(fleet.nodes, PARTS),
        fits,
        remark if fits else _too_small(demand, memory, cores),
    )


def _beside_node(fleet: FleetNeed, machines: int) -> int:
    """Memory of a machine with one session-node and its share of the other parts."""
    shares = (ceil(each.replicas / machines) * each.memory for each in PARTS.values())
    return node_limit(fleet.node_bytes) + sum(shares)


def _fits(demand: Demand, memory: int, cores: float) -> bool:
    return memory <= demand.machine_bytes * (1 - SYSTEM_SHARE) and cores <= demand.machine_cores


def _too_small(demand: Demand, memory: int, cores: float) -> str:
    needed, at_least = ceil(memory / (1 - SYSTEM_SHARE) / 2**30), ceil(cores)
    return (
        f"does not fit: a machine needs {needed} GiB and {at_least} core{'s' if at_least > 1 else ''}"
        if not _fits(demand, memory, cores)
        else "does not fit: systemd's units are for nine session-nodes on a machine at most"
    )
