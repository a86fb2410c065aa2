"""Limits of calls: counted in Redis, once for each call where it enters the mesh.

A call is counted for its account, its tenant, its key, and its key at its source address, wherever the
settings set a limit for its class. `bucket` is what this process may grant by itself, `shared` the count in
Redis that all processes have in common, `limiter` decides, and `entry` says which calls enter here.
"""

from mesh_core.rpc.limits.entry import Entry, RelayedCalls, Sources, relayed_metadata
from mesh_core.rpc.limits.limiter import CallLimiter, Counted
from mesh_core.rpc.limits.shared import SharedCounts

__all__ = [
    "CallLimiter",
    "Counted",
    "Entry",
    "RelayedCalls",
    "SharedCounts",
    "Sources",
    "relayed_metadata",
]
