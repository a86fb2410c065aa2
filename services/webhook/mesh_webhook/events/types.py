"""The types that events have: a filter for any other would wait for ever."""

from __future__ import annotations

_FAMILIES = {
    "account": "created updated deleted",
    "session": "state_changed restrictions_changed pairing",
    "message": "received synced queued sending sent delivered read played cancelled expired failed in_doubt"
    " edited revoked overdue reaction",
    "poll": "voted",
    "media": "ready failed",
    "chat": "updated cleared deleted",
    "label": "created updated deleted assignment_changed",
    "history": "synced",
    "presence": "updated",
    "contact": "updated deleted",
    "group": "joined updated members_changed join_requested",
    "community": "joined updated deactivated groups_changed",
    "channel": "followed unfollowed updated deleted post_updated",
    "call": "offered ended",
    "template": "updated",
    "job": "updated",
    "webhook": "test endpoint_disabled",
    "subscription": "expired",
}

EVENT_TYPES = frozenset(f"{family}.{name}" for family, names in _FAMILIES.items() for name in names.split())
"""Every type, those included that this version does not send yet."""

FAMILIES = frozenset(f"{family}.*" for family in _FAMILIES)
"""What stands for all types that begin alike."""
