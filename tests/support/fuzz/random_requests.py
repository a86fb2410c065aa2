"""Requests made by chance: any field may be set, to an edge of its type, to something plain, or to an id that
there is.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from tests.support.fuzz import edges
from tests.support.fuzz.places import Field, is_map

DEEPEST = 4
PLAIN_STRINGS = ("hello", "Ann", "+4915112345678", "user:49151", "en", "a b", "text/plain", "x" * 40)
LARGE = 1_000
"""Texts and bytes above this length are rare: of what a random request is about, they say nothing."""


class Dice:
    """Makes random requests; the same ones for one seed. `ids` are those that there are, by field name."""

    def __init__(self, seed: str, ids: Mapping[str, Sequence[str]], strangers: Sequence[str]) -> None:
        self._dice = random.Random(seed)
        self._ids = ids
        self._strangers = strangers

    def message(self, descriptor: Descriptor, depth: int = 0) -> Message:
        """A message of this type."""
        made: Any = message_factory.GetMessageClass(descriptor)()
        often = self._dice.choice((0.3, 0.7, 0.95)) if depth == 0 else 0.5
        for field in descriptor.fields:
            known = not depth and (field.name in self._ids or field.name == "request_id")
            if self._dice.random() < (0.95 if known else often):
                self._fill(made, field, depth)
        return made  # type: ignore[no-any-return] # a class made from a descriptor

    def _fill(self, made: Any, field: Field, depth: int) -> None:
        value = getattr(made, field.name)
        if is_map(field):
            self._fill_map(value, field)
        elif field.is_repeated and field.message_type is not None:
            if depth < DEEPEST:
                value.extend(
                    self.message(field.message_type, depth + 1) for _ in range(self._dice.randint(0, 3))
                )
        elif field.is_repeated:
            value.extend(self._scalar(field) for _ in range(self._dice.randint(0, 3)))
        elif field.message_type is None:
            setattr(made, field.name, self._scalar(field))
        elif depth < DEEPEST:
            value.CopyFrom(self.message(field.message_type, depth + 1))

    def _fill_map(self, entries: Any, field: Field) -> None:
        key, value = field.message_type.fields
        if value.message_type is None:
            for _ in range(self._dice.randint(0, 3)):
                entries[self._scalar(key)] = self._scalar(value)

    def _scalar(self, field: Field) -> Any:
        if field.type != field.TYPE_STRING:
            values = edges.scalars(field)
            if field.enum_type is not None and self._dice.random() < 0.8:
                return self._dice.choice(field.enum_type.values).number
            return self._dice.choice([value for value in values if not self._spared(value)])
        if field.name == "request_id" and self._dice.random() < 0.9:
            return f"fuzz-{self._dice.getrandbits(64):x}"
        chance = self._dice.random()
        if chance < 0.75 and (ids := self._ids.get(field.name)):
            return self._dice.choice(ids)
        if chance < 0.8:
            return self._dice.choice(self._strangers)
        if chance < 0.9:
            return self._dice.choice(PLAIN_STRINGS)
        return self._dice.choice([value for value in edges.scalars(field) if not self._spared(value)])

    def _spared(self, value: Any) -> bool:
        return isinstance(value, str | bytes) and len(value) > LARGE and self._dice.random() < 0.9
