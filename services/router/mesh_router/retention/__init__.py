"""Old data goes: days of messages and events, what tenants keep for less time, and deleted accounts."""

from mesh_router.retention.policy import Policy
from mesh_router.retention.runner import Retention

__all__ = ["Policy", "Retention"]
