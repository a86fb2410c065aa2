"""What was measured, where, when and how: docs/benchmarks.md has the tables that these are of."""

from __future__ import annotations

from dataclasses import dataclass

EPYC = "2 shared cores of an AMD EPYC, Python 3.11"


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured number, in bytes or seconds; `command` measured it at `commit`."""

    value: float
    what: str
    date: str
    commit: str
    command: str
    machine: str = EPYC

    @property
    def source(self) -> str:
        """Such as `python -m bench message, 2026-11-22, commit 4292ef8f, ...`."""
        return f"{self.command}, {self.date}, commit {self.commit}, {self.machine}"


@dataclass(frozen=True, slots=True)
class DriverFigures:
    """What accounts of one network cost a session-node, its sidecar included."""

    network: str
    node_bytes: Figure
    account_bytes: Figure
    node_cpu: Figure
    """Seconds for each message."""


_MESSAGE = ("2026-11-22", "4292ef8f", "python -m bench message")
_LINKED = "python -m bench whatsapp_web --part "
SIMULATED = DriverFigures(
    network="simulated",
    node_bytes=Figure(57 << 20, "a session-node without accounts", "2026-11-22", "31102595", "mesh up, PSS"),
    account_bytes=Figure(
        9 << 10, "an account that is online and idle", "2026-11-22", "31102595", "mesh up, PSS"
    ),
    node_cpu=Figure(1.45e-3, "session-nodes, of a message from send to last receipt", *_MESSAGE),
)
WHATSAPP_WEB = DriverFigures(
    network="whatsapp_web",
    node_bytes=Figure(
        101 << 20,
        "a session-node with its sidecar, without accounts",
        "2026-11-30",
        "8627cf3f",
        f"{_LINKED}memory --quick",
    ),
    account_bytes=Figure(
        0.24 * 2**20,
        "an account that is online and has sent, in its node and sidecar",
        "2026-11-30",
        "fd844a60",
        f"{_LINKED}memory",
    ),
    # Over what the same nodes took for the simulated network in the same run: machines differ less in ratios.
    node_cpu=Figure(
        1.45e-3 * 0.90 / 0.42,
        "session-nodes and sidecars, of a message from send to last receipt",
        "2026-11-30",
        "d2236203",
        f"{_LINKED}cost",
    ),
)
BY_DRIVER = {one.network: one for one in (SIMULATED, WHATSAPP_WEB)}

ROUTER_CPU = Figure(0.83e-3, "the router, of a message", *_MESSAGE)
POSTGRES_CPU = Figure(0.60e-3, "Postgres, of a message", *_MESSAGE)
REST_CPU = Figure(0.12e-3, "webhook, etcd and Redis, of a message", *_MESSAGE)
LOGIN_CPU = Figure(
    5e-3, "the login of a linked device, in all processes", "2026-11-30", "6c5c57e1", f"{_LINKED}kills"
)
DATABASE_BYTES = Figure(
    3_200,
    "the database, for each message with its three events, receipt and indexes",
    "2026-11-30",
    "8627cf3f",
    "python -m bench message --quick",
)
LOG_BYTES = Figure(
    4_400,
    "Postgres' log, for each message where 2.1 share a commit",
    "2026-11-30",
    "8627cf3f",
    "python -m bench message --quick",
)
STORED_SHARE = Figure(
    42 / 87,
    "what a backup of the database takes of its size",
    "2026-11-30",
    "fcc8b46f",
    "python -m bench restore --quick",
)
ETCD_BYTES = Figure(
    2_023_424,
    "etcd's file with three nodes and all 4,096 shards owned: accounts do not make it larger",
    "2026-11-30",
    "8627cf3f",
    "mesh up --nodes 3",
)

OTHERS = (
    "WAHA's guide to scaling, August 2024: 500 sessions without a browser on one server of 3 cores and 30 GB"
)
OTHERS_BYTES = 30e9 / 500
OTHERS_CORES = 3 / 500
"""What a gateway of one process asks for, for each account, as its makers say."""
