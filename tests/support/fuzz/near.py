"""Requests one field away from a valid one: every field of it, set or not, gets every value at its edges."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from typing import Any

from google.protobuf.message import Message

from tests.support.fuzz import edges
from tests.support.fuzz.places import DURATION, MASK, TIMESTAMP, Field, Place, places

MANY = 2_000
Change = Callable[[Any, str], None]


@dataclass(frozen=True, slots=True)
class Edit:
    """A change of one field; `what` tells people which."""

    place: str
    what: str
    apply: Callable[[Message], None]


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


def edits(base: Message, strangers: Sequence[str] = ()) -> Iterator[Edit]:
    """Every edit of `base`."""
    for place in places(base):
        for what, change in _changes(place, strangers):
            yield Edit(place.dotted, what, partial(_apply, place, change))


def _apply(place: Place, change: Change, message: Message) -> None:
    change(place.parent(message), place.field.name)


def _changes(place: Place, strangers: Sequence[str]) -> Iterator[tuple[str, Change]]:
    yield "left out", _clear
    if place.is_map:
        yield from _of_map(place.field)
    elif place.field.is_repeated and place.kind:
        yield "and an empty one", lambda parent, name: getattr(parent, name).add()
        yield f"{MANY} times", _repeat_messages
    elif place.field.is_repeated:
        yield from _of_list(_values(place.field, strangers))
    elif place.kind:
        yield from _of_message(place.kind)
    else:
        for value in _values(place.field, strangers):
            yield f"= {_short(value)}", _set(value)


def _of_list(values: Sequence[Any]) -> Iterator[tuple[str, Change]]:
    for value in values:
        yield f"= [{_short(value)}]", _fill([value])
        if not isinstance(value, str | bytes) or len(value) < 100:
            yield f"= [{_short(value)}] * {MANY}", _fill([value] * MANY)


def _of_map(field: Field) -> Iterator[tuple[str, Change]]:
    if all(each.type == each.TYPE_STRING for each in field.message_type.fields):
        for entries in _LABELS:
            yield f"= {_short(entries)}", _put(entries)


def _of_message(kind: str) -> Iterator[tuple[str, Change]]:
    yield "empty", lambda parent, name: _emptied(parent, name).SetInParent()
    if kind in (TIMESTAMP, DURATION):
        for seconds in edges.SECONDS:
            yield f"= {seconds} s", _set_time(seconds, 0)
        for nanos in edges.NANOS:
            yield f"= 1 s {nanos} ns", _set_time(1, nanos)
    elif kind == MASK:
        for paths in edges.MASKS:
            yield f"= {_short(paths)}", _set_mask(paths)


def _unknown_fields() -> Iterator[Edit]:
    """Fields of a later version, or of none, in addition."""
    for tail in (b"\xf8\xff\xff\xff\x0f\x01", b"\xc2\x3e\x03abc", b"\xc2\x3e\xa0\x8d\x06" + b"x" * 100_000):
        yield Edit("", f"and an unknown field of {len(tail)} bytes", partial(_append, tail))


def _values(field: Field, strangers: Sequence[str]) -> tuple[Any, ...]:
    known = edges.scalars(field)
    return (*known, *strangers) if field.type == field.TYPE_STRING else known


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


def _append(tail: bytes, message: Message) -> None:
    message.MergeFromString(tail)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({len(text)})"


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
