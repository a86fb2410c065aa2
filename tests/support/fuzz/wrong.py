"""Requests with one field that is wrong, and how they must be answered: as the descriptors say it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from google.api.field_behavior_pb2 import OUTPUT_ONLY, REQUIRED
from google.protobuf.message import Message
from grpc import StatusCode

from tests.support.api_methods import request_types
from tests.support.fuzz.calls import Answer
from tests.support.fuzz.places import DURATION, MASK, TIMESTAMP, Place, places, within
from tests.support.fuzz.world import is_id

UNKNOWN_ENUMS = (99, -1, 2**31 - 1)
NO_TIMES = ((253_402_300_800, 0), (-62_135_596_801, 0), (2**63 - 1, 0), (1, -1), (1, 1_000_000_000))
NO_DURATIONS = ((315_576_000_001, 0), (-315_576_000_001, 0), (2**63 - 1, 0), (1, -1), (1, 1_000_000_000))
NO_NUMBERS = (math.nan, math.inf, -math.inf)
EXTREMES = {
    "INT32": (-(2**31), 2**31 - 1),
    "INT64": (-(2**63), 2**63 - 1),
    "UINT32": (2**32 - 1,),
    "UINT64": (2**64 - 1,),
}
MALFORMED_IDS = ("nonsense", "acc_", "{prefix}_" + "0" * 25, "{prefix}_" + "U" * 26, "xyz_" + "0" * 26)
MASK_FIELD = "update_mask"


@dataclass(frozen=True, slots=True)
class Wrong:
    """A change for the worse of the field at `place`. A value that is merely extreme need not be refused."""

    place: str
    what: str
    apply: Callable[[Message], None]
    must_be_refused: bool = True
    around: frozenset[str] = frozenset()

    def fault_of(self, answer: Answer) -> str:
        """What is wrong with an answer to it; "" when it is right.

        A refusal names exactly this field or its first entry, or a message around it that the valid request
        does not have, or what else this message needs; or the mask, of a field that no update may change.
        """
        if answer.reason == "NOT_SERVED":  # whatever it says
            return ""
        if answer.code is not StatusCode.INVALID_ARGUMENT:
            return (
                f"must be refused, but: {answer.code.name} {answer.message}" if self.must_be_refused else ""
            )
        good = {self.place, f"{self.place}[0]", MASK_FIELD, *self.around}
        named = len(answer.fields) == 1 and (
            answer.fields[0] in good or answer.fields[0].startswith(tuple(f"{one}." for one in self.around))
        )
        return "" if named else f"names {answer.fields}: {answer.message}"


def without_required(message: Message) -> Iterator[Wrong]:
    """Each of the required fields left out in turn; not those of items, which have answers of their own."""
    known = [*places(message)]
    ignored = [place for place in known if place.behaves(OUTPUT_ONLY) or place.kind in request_types()]
    for place in known:
        if place.behaves(REQUIRED) and not within(place, ignored):
            yield Wrong(
                place.dotted,
                "left out",
                partial(_change, place, lambda parent, name: parent.ClearField(name)),
            )


def wrong_values(message: Message) -> Iterator[Wrong]:
    """Each field in turn with values that its type can carry and no call can take, or hardly any.

    An item that is a request of its own has its own answer, and is asked by itself.
    """
    known = [*places(message, into_unset=True)]
    ignored = [place for place in known if place.behaves(OUTPUT_ONLY) or place.kind in request_types()]
    unset = frozenset(place.dotted for place in known if place.kind and not place.is_set(message))
    for place in known:
        if within(place, ignored) or place.is_map or (place.field.is_repeated and place.kind):
            continue
        change = partial(_wrong, place, around=unset)
        for value in (*_impossible(place), *_malformed(place.value(message))):
            yield change(value)
        for value in _extreme(place):
            yield change(value, must_be_refused=False)


def with_ids(message: Message, ids: Mapping[str, str]) -> Iterator[Wrong]:
    """Each id in turn replaced by the one that `ids` has for its prefix; one without is left out."""
    for place in places(message):
        value = place.value(message)
        if is_id(value) and value[:3] in ids:
            yield Wrong(place.dotted, ids[value[:3]], partial(_change, place, partial(_set, ids[value[:3]])))


def with_output_fields(message: Message) -> Message | None:
    """`message` with all its output-only fields set, which has to change nothing; None if it has none.

    Not so an etag: what was read is sent back with it.
    """
    output = [place for place in places(message) if place.behaves(OUTPUT_ONLY) and place.field.name != "etag"]
    for place in output:
        _set(_plausible(place), place.parent(message), place.field.name)
    return message if output else None


def _wrong(place: Place, value: Any, *, around: frozenset[str], must_be_refused: bool = True) -> Wrong:
    apply = partial(_change, place, partial(_set, value))
    return Wrong(place.dotted, f"= {str(value)[:40]!r}", apply, must_be_refused, around)


def _malformed(value: Any) -> list[str]:
    """What is no id, in the place of one of ours."""
    if not is_id(value):
        return []
    return [malformed.format(prefix=value[:3]) for malformed in MALFORMED_IDS]


def _impossible(place: Place) -> tuple[Any, ...]:
    if place.field.enum_type is not None:
        return UNKNOWN_ENUMS
    if place.kind in (TIMESTAMP, DURATION):
        return NO_TIMES if place.kind == TIMESTAMP else NO_DURATIONS
    return (
        NO_NUMBERS if place.field.cpp_type in (place.field.CPPTYPE_DOUBLE, place.field.CPPTYPE_FLOAT) else ()
    )


def _extreme(place: Place) -> tuple[Any, ...]:
    if place.field.type == place.field.TYPE_STRING:
        return ("a\0b", "x" * 100_000)
    for kind, values in EXTREMES.items():
        if place.field.cpp_type == getattr(place.field, f"CPPTYPE_{kind}"):
            return values
    return ()


def _plausible(place: Place) -> Any:
    if place.kind:
        return (1, 0) if place.kind in (TIMESTAMP, DURATION) else ()
    return (
        "x"
        if place.field.type == place.field.TYPE_STRING
        else b"x"
        if place.field.type == place.field.TYPE_BYTES
        else 1
    )


def _change(place: Place, change: Callable[[Any, str], None], message: Any) -> None:
    """Change the field; of an update it becomes the one that is updated."""
    change(place.parent(message), place.field.name)
    mask = message.DESCRIPTOR.fields_by_name.get(MASK_FIELD)
    if mask is not None and mask.message_type.full_name == MASK and place.path:
        names = [step for step in (*place.path, place.field.name) if isinstance(step, str)]
        message.update_mask.paths[:] = [names[1]]


def _set(value: Any, parent: Any, name: str) -> None:
    field = parent.DESCRIPTOR.fields_by_name[name]
    if field.message_type is not None:
        target = getattr(parent, name).add() if field.is_repeated else getattr(parent, name)
        target.SetInParent()
        if value:
            target.seconds, target.nanos = value
    elif field.is_repeated:
        getattr(parent, name)[:] = [value]
    else:
        setattr(parent, name, value)
