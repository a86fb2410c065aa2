"""What a mesh needs for a number of accounts: machines, memory, cores, disks, in each way of deploying it.

Here is what is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from mesh_core.sizing.figures import DriverFigures

BUSIEST_HOUR = 0.1
"""Share of a day's messages that come in its busiest hour: a choice, as nobody's day was measured."""
MOST_PER_NODE = 1400
"""Accounts of a session-node, at most: their logins after its death are seven seconds of one core's work."""
SPARE_NODES = 1
CONNECTS_PER_SECOND = 100
"""MESH_SESSION_CONNECTS_PER_SECOND in deploy/settings."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Messages are of all accounts together, sent and received; `media_days` is how long files are kept."""

    accounts: int
    messages_per_day: int
    media_per_day: int
    media_days: int
    figures: DriverFigures
    machine_bytes: int
    machine_cores: int

    @property
    def messages_per_second(self) -> float:
        """In the busiest hour."""
        return self.messages_per_day * BUSIEST_HOUR / 3600
