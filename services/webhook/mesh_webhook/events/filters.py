"""Which events a caller wants: the same filter for endpoints, streams and listings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.errors import InvalidField
from mesh_core.ids import Prefix

MAX_EVENT_TYPES = 64
MAX_ACCOUNTS = 1000

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


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Event types, accounts and labels; an event must match all three, and an empty one matches every event.

    `families` are prefixes such as `message.`.
    """

    types: frozenset[str] = frozenset()
    families: tuple[str, ...] = ()
    accounts: frozenset[UUID] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        event_types: Sequence[str],
        accounts: Iterable[UUID] = (),
        labels: Mapping[str, str] | None = None,
    ) -> EventFilter:
        """`event_types` are types such as `message.received`, families such as `message.*`, or `*`."""
        every = "*" in event_types
        return cls(
            frozenset() if every else frozenset(event_types),
            () if every else tuple(name[:-1] for name in event_types if name.endswith(".*")),
            frozenset(accounts),
            labels or {},
        )

    def matches(self, event_type: str, account: UUID) -> bool:
        """Whether type and account match; both are columns, so the event need not be parsed for this."""
        if self.accounts and account not in self.accounts:
            return False
        return not self.types or event_type in self.types or event_type.startswith(self.families)

    def matches_labels(self, labels: Mapping[str, str]) -> bool:
        """Whether an event with `labels` has all labels of the filter."""
        return all(labels.get(key) == value for key, value in self.labels.items())


def check_event_type(field_name: str, event_type: str) -> str:
    """`event_type`, which may be empty; raises `InvalidField` for one that does not exist."""
    if event_type and event_type not in EVENT_TYPES:
        raise InvalidField(field_name, "must be an event type such as message.received")
    return event_type


def check_event_types(field_name: str, event_types: Sequence[str]) -> list[str]:
    """`event_types` without repeats; raises `InvalidField` for one that does not exist."""
    if len(event_types) > MAX_EVENT_TYPES:
        raise InvalidField(field_name, f"must have at most {MAX_EVENT_TYPES} entries")
    for name in event_types:
        if name != "*" and name not in EVENT_TYPES and name not in FAMILIES:
            raise InvalidField(
                field_name, f"{name[:64]!r} is no type of event such as message.received, or message.*"
            )
    return list(dict.fromkeys(event_types))


def check_accounts(field_name: str, account_ids: Sequence[str]) -> list[UUID]:
    """The accounts' UUIDs without repeats; raises `InvalidField`."""
    if len(account_ids) > MAX_ACCOUNTS:
        raise InvalidField(field_name, f"must have at most {MAX_ACCOUNTS} entries")
    return [ids.decode(Prefix.ACCOUNT, name, field_name) for name in dict.fromkeys(account_ids)]
