"""The fields of a request, wherever they stand in it, and what the API says of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from google.api import field_behavior_pb2
from google.api.field_behavior_pb2 import FieldBehavior
from google.protobuf.message import Message

Field = Any  # a FieldDescriptor: of two classes, as far as types go
Step = str | int
TIMESTAMP, DURATION, MASK = (
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
    "google.protobuf.FieldMask",
)
WELL_KNOWN = (TIMESTAMP, DURATION, MASK)
DEEPEST = 5


@dataclass(frozen=True, slots=True)
class Place:
    """A field of the message at `path`: names, and places in lists."""

    path: tuple[Step, ...]
    field: Field

    @property
    def dotted(self) -> str:
        """As errors name it: `messages[0].labels`."""
        text = ""
        for step in (*self.path, self.field.name):
            text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
        return text

    @property
    def kind(self) -> str:
        """The full name of the field's message; "" for another field."""
        return "" if self.field.message_type is None else str(self.field.message_type.full_name)

    @property
    def is_map(self) -> bool:
        return is_map(self.field)

    def value(self, message: Message) -> Any:
        """What `message` has there."""
        return getattr(self.parent(message), self.field.name)

    def is_set(self, message: Message) -> bool:
        """Whether `message` has a message there, or entries."""
        return (
            bool(self.value(message))
            if self.field.is_repeated
            else bool(self.parent(message).HasField(self.field.name))
        )

    def behaves(self, behaviour: FieldBehavior.ValueType) -> bool:
        """Whether the API says so of the field."""
        return behaviour in self.field.GetOptions().Extensions[field_behavior_pb2.field_behavior]

    def parent(self, message: Message) -> Any:
        """The message of `message` that has the field."""
        found: Any = message
        for step in self.path:
            found = found[step] if isinstance(step, int) else getattr(found, step)
        return found


def places(message: Message, *, into_unset: bool = False, path: tuple[Step, ...] = ()) -> Iterator[Place]:
    """Every field of `message` and of the messages in it: of lists, of the first one.

    `into_unset`: of messages that are not set, too, unless setting one would unset another.
    """
    for field in message.DESCRIPTOR.fields:
        place = Place(path, field)
        yield place
        if field.message_type is None or place.is_map or place.kind in WELL_KNOWN:
            continue
        value = getattr(message, field.name)
        if field.is_repeated:
            if len(value):
                yield from places(value[0], into_unset=into_unset, path=(*path, field.name, 0))
        elif message.HasField(field.name) or (
            into_unset and field.containing_oneof is None and len(path) < DEEPEST
        ):
            yield from places(value, into_unset=into_unset, path=(*path, field.name))


def is_map(field: Field) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def within(place: Place, others: Sequence[Place]) -> bool:
    """Whether a field is one of `others`, or in one of them."""
    full = (*place.path, place.field.name)
    return any(full[: len(other.path) + 1] == (*other.path, other.field.name) for other in others)
