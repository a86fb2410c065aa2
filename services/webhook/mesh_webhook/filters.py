"""Which events somebody wants: the same for endpoints and for streams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids, validation
from mesh_core.errors import InvalidField
from mesh_core.ids import Prefix

MOST_TYPES = 64
MOST_ACCOUNTS = 1000


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Types, accounts and labels, combined with AND; an empty one of them lets everything through."""

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
        """`event_types` are types such as `message.received` or families such as `message.*`."""
        every = "*" in event_types
        return cls(
            frozenset() if every else frozenset(event_types),
            () if every else tuple(name[:-1] for name in event_types if name.endswith(".*")),
            frozenset(accounts),
            labels or {},
        )

    def wants(self, event_type: str, account: UUID) -> bool:
        """Whether type and account pass: what can be told without parsing the event."""
        if self.accounts and account not in self.accounts:
            return False
        return not self.types or event_type in self.types or event_type.startswith(self.families)

    def wants_labels(self, labels: Mapping[str, str]) -> bool:
        """Whether an event with `labels` passes."""
        return all(labels.get(key) == value for key, value in self.labels.items())


def check_event_types(field_name: str, event_types: Sequence[str]) -> list[str]:
    """`event_types` without repeats; raises `InvalidField` for what is no type, family or `*`."""
    if len(event_types) > MOST_TYPES:
        raise InvalidField(field_name, f"must have at most {MOST_TYPES} entries")
    for name in event_types:
        words = name.removesuffix(".*").split(".")
        if name != "*" and (
            len(name) > validation.MAX_NAME
            or not all(
                word.isascii() and word.replace("_", "a").isalpha() and word.islower() for word in words
            )
        ):
            raise InvalidField(
                field_name, f"{name[:64]!r} is no event type such as message.received, or message.*"
            )
    return list(dict.fromkeys(event_types))


def check_accounts(field_name: str, account_ids: Sequence[str]) -> list[UUID]:
    """The accounts by their ids; raises `InvalidField`."""
    if len(account_ids) > MOST_ACCOUNTS:
        raise InvalidField(field_name, f"must have at most {MOST_ACCOUNTS} entries")
    return [ids.decode(Prefix.ACCOUNT, name, field_name) for name in dict.fromkeys(account_ids)]
