"""How long faults last: briefly in `make test`; `make test-long` sets what production may see.

Tests that read these are marked `timed`.
"""

from __future__ import annotations

import os

TTL_SECONDS = 7.0
"""After so long without a sign, a session-node counts as dead (`mesh_core.ownership.participant.keeper`)."""
OUTAGE_SECONDS = float(os.environ.get("MESH_FAULT_OUTAGE_SECONDS", "9"))
"""How long a server is away, frozen or cut off: beyond the TTL."""
CLOCK_STEP_SECONDS = int(os.environ.get("MESH_FAULT_CLOCK_STEP_SECONDS", "10"))
"""How far clocks jump: beyond the TTL, too. What was dated ahead meanwhile is waited for so long."""


def seeds() -> list[int]:
    """The sequences of random operations: so many, or those listed with commas."""
    chosen = os.environ.get("MESH_FAULT_SEEDS", "1")
    if "," in chosen:
        return [int(seed) for seed in chosen.split(",") if seed]
    return list(range(1, int(chosen) + 1))
