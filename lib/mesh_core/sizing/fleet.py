"""How many session-nodes a number of accounts and messages needs, and what each of them takes."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from mesh_core.sizing.figures import DriverFigures

BUSY_SHARE = 0.7
"""How busy a node is planned to be: what is left is for reconnects, receipts and a node's failure."""
CONNECTS_PER_SECOND = 500
"""The default of MESH_SESSION_CONNECTS_PER_SECOND."""


@dataclass(frozen=True, slots=True)
class FleetNeed:
    """`working` nodes hold all accounts; `spare` more may be lost. What a node takes is told for the time
    when they are.
    """

    working: int
    spare: int
    accounts_per_node: int
    node_bytes: int
    """Measured memory (PSS), without what waits in outboxes."""
    node_cores: float
    connect_seconds: int
    """Until all accounts are connected after a full restart, as far as nodes decide it."""
    decided_by: str
    """`messages` or `sessions`."""

    @property
    def nodes(self) -> int:
        return self.working + self.spare


def fleet_need(
    figures: DriverFigures,
    accounts: int,
    messages_per_second: float,
    sessions_per_node: int,
    spare: int,
    connects_per_second: int = CONNECTS_PER_SECOND,
) -> FleetNeed:
    """Nodes by sessions and by CPU, whichever needs more. The rest must do when the spare ones are lost, so a
    node is sized for its share without them.
    """
    cpu = messages_per_second * figures.node_cpu.value
    by_sessions = ceil(accounts / sessions_per_node)
    by_cpu = ceil(cpu / BUSY_SHARE)
    working = max(by_sessions, by_cpu, 1)
    each = ceil(accounts / working)
    return FleetNeed(
        working=working,
        spare=spare,
        accounts_per_node=each,
        node_bytes=round(figures.node_bytes.value + each * figures.account_bytes.value),
        node_cores=cpu / working / BUSY_SHARE,
        connect_seconds=ceil(each / connects_per_second),
        decided_by="messages" if by_cpu > by_sessions else "sessions",
    )
