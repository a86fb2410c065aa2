"""Requests one field away from a valid one: every field of it, set or not, gets every value at its edges."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Kinds
from google.protobuf.message import Message

from tests.support.fuzz import edges

MANY = 2_000
TIMESTAMP, DURATION, MASK = (
    "google.protobuf.Timestamp",
    "google.protobuf.Duration",
    "google.protobuf.FieldMask",
)
Step = str | int
Field = Any  # a FieldDescriptor: of two classes, as far as types go
Change = Callable[[Any, str], None]


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of the field at `path` (names, and places in lists). `apply` makes it."""

    path: tuple[Step, ...]
    name: str
    what: str
    change: Change

    @property
    def place(self) -> str:
        """The field, as an error would name it."""
        return dotted((*self.path, self.name))

    def apply(self, message: Message) -> None:
        parent: Any = message
        for step in self.path:
            parent = parent[step] if isinstance(step, int) else getattr(parent, step)
        self.change(parent, self.name)


def choose(base: Message, count: int, seed: str, strangers: Sequence[str] = ()) -> list[Edit]:
    """`count` edits of `base`, always the same for one seed, spread evenly over its fields.

    `strangers` are ids of resources that the caller may not see. Where there are fewer edits than `count`,
    some come again.
    """
    by_field: defaultdict[str, list[Edit]] = defaultdict(list)
    for edit in (*edits(base, strangers), *_unknown_fields()):
        by_field[edit.place].append(edit)
    dice = random.Random(seed)
    rows = list(by_field.values())
    for row in rows:
        dice.shuffle(row)
    dice.shuffle(rows)
    turns = [
        edit for turn in range(max(map(len, rows))) for row in rows if turn < len(row) for edit in [row[turn]]
    ]
    return list(islice(cycle(turns), count))


def edits(base: Message, strangers: Sequence[str] = (), path: tuple[Step, ...] = ()) -> Iterator[Edit]:
    """Every edit of `base`, whose own place is `path`."""
    for field in base.DESCRIPTOR.fields:
        if is_map(field):
            yield from _of_map(path, field)
        elif field.is_repeated:
            yield from _of_list(path, field, strangers)
        elif field.message_type is None:
            yield from _of_scalar(path, field, strangers)
        else:
            yield from _of_message(path, field)
        if field.message_type is None or is_map(field) or field.message_type.full_name in _WELL_KNOWN:
            continue
        value = getattr(base, field.name)
        if field.is_repeated:
            if len(value):
                yield from edits(value[0], strangers, (*path, field.name, 0))
        elif base.HasField(field.name):
            yield from edits(value, strangers, (*path, field.name))


def is_map(field: Field) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def dotted(path: Sequence[Step]) -> str:
    """A path as errors have it: `messages[0].labels`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def _of_scalar(path: tuple[Step, ...], field: Field, strangers: Sequence[str]) -> Iterator[Edit]:
    yield Edit(path, field.name, "left out", _clear)
    for value in _values(field, strangers):
        yield Edit(path, field.name, f"= {_short(value)}", _set(value))


def _of_list(path: tuple[Step, ...], field: Field, strangers: Sequence[str]) -> Iterator[Edit]:
    yield Edit(path, field.name, "left out", _clear)
    if field.message_type is not None:
        yield Edit(path, field.name, "and an empty one", lambda parent, name: getattr(parent, name).add())
        yield Edit(path, field.name, f"{MANY} times", _repeat_messages)
        return
    for value in _values(field, strangers):
        yield Edit(path, field.name, f"= [{_short(value)}]", _fill([value]))
        if not isinstance(value, str | bytes) or len(value) < 100:
            yield Edit(path, field.name, f"= [{_short(value)}] * {MANY}", _fill([value] * MANY))


def _of_map(path: tuple[Step, ...], field: Field) -> Iterator[Edit]:
    yield Edit(path, field.name, "left out", _clear)
    key, value = field.message_type.fields
    if key.cpp_type != Kinds.CPPTYPE_STRING or value.cpp_type != Kinds.CPPTYPE_STRING:
        return
    for entries in _LABELS:
        yield Edit(path, field.name, f"= {_short(entries)}", _put(entries))


def _of_message(path: tuple[Step, ...], field: Field) -> Iterator[Edit]:
    yield Edit(path, field.name, "left out", _clear)
    yield Edit(path, field.name, "empty", lambda parent, name: _emptied(parent, name).SetInParent())
    kind = field.message_type.full_name
    if kind in (TIMESTAMP, DURATION):
        for seconds in edges.SECONDS:
            yield Edit(path, field.name, f"= {seconds} s", _set_time(seconds, 0))
        for nanos in edges.NANOS:
            yield Edit(path, field.name, f"= 1 s {nanos} ns", _set_time(1, nanos))
    elif kind == MASK:
        for paths in edges.MASKS:
            yield Edit(path, field.name, f"= {_short(paths)}", _set_mask(paths))


def _unknown_fields() -> Iterator[Edit]:
    """Fields of a later version, or of none: appended to the serialised request."""
    for tail in (b"\xf8\xff\xff\xff\x0f\x01", b"\xc2\x3e\x03abc", b"\xc2\x3e\xa0\x8d\x06" + b"x" * 100_000):
        yield Edit((), "", f"and an unknown field of {len(tail)} bytes", _append(tail))


def _values(field: Field, strangers: Sequence[str]) -> tuple[Any, ...]:
    known = edges.scalars(field)
    return (*known, *strangers) if field.type == Kinds.TYPE_STRING else known


def _clear(parent: Any, name: str) -> None:
    parent.ClearField(name)


def _emptied(parent: Any, name: str) -> Any:
    parent.ClearField(name)
    return getattr(parent, name)


def _set(value: Any) -> Change:
    return lambda parent, name: setattr(parent, name, value)


def _fill(values: list[Any]) -> Change:
    return lambda parent, name: _emptied(parent, name).extend(values)


def _put(entries: dict[str, str]) -> Change:
    return lambda parent, name: _emptied(parent, name).update(entries)


def _repeat_messages(parent: Any, name: str) -> None:
    rows = getattr(parent, name)
    first = rows[0] if len(rows) else rows.add()
    times = min(MANY, 2_000_000 // (first.ByteSize() + 1))
    rows.extend([first] * times)


def _set_time(seconds: int, nanos: int) -> Change:
    def change(parent: Any, name: str) -> None:
        value = _emptied(parent, name)
        value.seconds, value.nanos = seconds, nanos

    return change


def _set_mask(paths: Sequence[str]) -> Change:
    return lambda parent, name: _emptied(parent, name).paths.extend(paths)


def _append(tail: bytes) -> Change:
    return lambda message, _name: message.MergeFromString(tail)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text)})"


_WELL_KNOWN = (TIMESTAMP, DURATION, MASK)
_LABELS: tuple[dict[str, str], ...] = (
    {"key": "value"},
    {"": "empty key"},
    {"key": ""},
    {"a\0b": "x"},
    {"key": "a\0b"},
    {"k" * 64: "x"},
    {"key": "v" * 256},
    {"key": "v" * 1_000_000},
    {edges.SURROGATE_MARK: "x"},
    {"key": edges.SURROGATE_MARK},
    {f"key{number}": "x" for number in range(33)},
    {f"key{number}": "x" for number in range(MANY)},
)
