"""A session-node's part in ownership: it claims, keeps and hands off shards."""

from mesh_core.ownership.participant.fence import FenceUnavailable, IncarnationExpired
from mesh_core.ownership.participant.handoff import ShardHandler
from mesh_core.ownership.participant.ownership import Ownership

__all__ = ["FenceUnavailable", "IncarnationExpired", "Ownership", "ShardHandler"]
