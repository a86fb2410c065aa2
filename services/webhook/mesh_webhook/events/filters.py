"""Which events a caller wants: the same filter for endpoints, streams and listings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.errors import InvalidField
from mesh_core.ids import Prefix
from mesh_webhook.events.catalogue import EVENT_TYPES, FAMILIES

MAX_EVENT_TYPES = 64
MAX_ACCOUNTS = 1000


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
