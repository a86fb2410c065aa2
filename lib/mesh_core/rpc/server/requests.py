"""What the protos alone say of a request, checked for every method whose handler takes messages.

Fields whose `google.api.field_behavior` is REQUIRED are there: in a message inside the request only where
that message is there, and of what an update mask names only what it names. Enums have numbers that the proto
has; in a list they also say something. Times, durations and floating-point numbers are such, and no text has
a NUL, which Postgres cannot store. No list is longer than `MAX_ENTRIES`, and none of enums longer than the
enum: eight megabytes of numbers would otherwise keep a whole process busy for seconds. Only a caller's
log may be, which operators show to the simulated network. The rules of a message are made once, from its
descriptor.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from functools import cache
from math import inf, isfinite
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core import validation
from mesh_core.errors import InvalidField

Named = frozenset[str] | None
"""Paths of an update mask, from the message that is being checked; None: all of it is named."""
CheckValue = Callable[[str, Any, Named], None]
"""Raises `InvalidField` with the given path, unless the value is good."""


MAX_ENTRIES = 2048
"""Most entries that any list or map of a request may have; most fields have lower limits of their own."""

_LOGGED = "sessionmesh.simulator.v1.CallerRecord"


def check(request: Message) -> None:
    """Raise `InvalidField` for the first field, by its number, that is not as the protos say."""
    named: Named = None
    if "update_mask" in request.DESCRIPTOR.fields_by_name:
        mask: FieldMask = request.update_mask  # type: ignore[attr-defined]
        _check_length("update_mask", mask.paths, MAX_ENTRIES)
        paths = frozenset(mask.paths)
        named = None if "*" in paths else paths
    for rule in _rules(request.DESCRIPTOR):
        rule.check(request, "", named, required=True)


def check_part(path: str, part: Message) -> None:
    """The same of a message inside a request whose handler takes bytes; `path` is its own."""
    for rule in _rules(part.DESCRIPTOR):
        rule.check(part, f"{path}.", None, required=True)


class _Rule:
    """What is checked of one field."""

    __slots__ = ("_is_message", "_is_missing", "_keyed", "_most", "_of_value", "_repeated", "name")

    def __init__(self, field: FieldDescriptor, of_value: CheckValue | None) -> None:
        self.name = field.name
        self._of_value = of_value
        self._keyed = _is_map(field)
        self._repeated = field.is_repeated
        self._most = _most_entries(field)
        self._is_message = field.message_type is not None
        self._is_missing = _missing(field) if _is_required(field) else None

    def check(self, message: Message, within: str, inside: Named, *, required: bool) -> None:
        """Check the field of `message`, whose own path is `within`, with its dot.

        `required`: the field must be there where the proto says so; `inside` names what of its own must.
        """
        name = self.name
        if required and self._is_missing is not None and self._is_missing(message):
            raise InvalidField(within + name, "is required")
        check_value = self._of_value
        if self._repeated:
            _check_length(within + name, getattr(message, name), self._most)
        if check_value is None or (self._is_message and not self._repeated and not message.HasField(name)):
            return
        value = getattr(message, name)
        if self._keyed:
            for key, one in value.items():
                _check_text(within + name, key, None)
                check_value(f"{within}{name}[{key}]", one, inside)
        elif self._repeated:
            for at, one in enumerate(value):
                check_value(f"{within}{name}[{at}]", one, inside)
        else:
            check_value(within + name, value, inside)


@cache
def _rules(descriptor: Descriptor) -> tuple[_Rule, ...]:
    fields = sorted(descriptor.fields, key=lambda field: field.number)
    rules = ((field, _value_check(field)) for field in fields)
    return tuple(
        _Rule(field, check)
        for field, check in rules
        if check is not None or field.is_repeated or _is_required(field)
    )


def _value_check(field: FieldDescriptor) -> CheckValue | None:
    """The check of one value of `field`; None when any is good."""
    if field.message_type is not None:
        if _is_map(field):
            return _value_check(field.message_type.fields_by_name["value"]) or _check_nothing
        return _message_check(field.message_type)
    if field.enum_type is not None:
        return _enum_check(field.enum_type, least=1 if field.is_repeated else 0)
    return _SCALARS.get(field.type)


def _message_check(descriptor: Descriptor) -> CheckValue | None:
    if descriptor.full_name in _KNOWN:
        return _KNOWN[descriptor.full_name]
    if not descriptor.full_name.startswith("sessionmesh."):
        return None

    def check_message(path: str, value: Message, named: Named) -> None:
        for rule in _rules(descriptor):
            name = rule.name
            if named is None or name in named:
                rule.check(value, f"{path}.", None, required=True)
            else:
                below = frozenset(one[len(name) + 1 :] for one in named if one.startswith(f"{name}."))
                rule.check(value, f"{path}.", below, required=False)

    return check_message


def _enum_check(enum: EnumDescriptor, least: int) -> CheckValue:
    """The check of an enum's number; from `least` on, which leaves out _UNSPECIFIED in lists."""
    known = frozenset(number for number in enum.values_by_number if number >= least)
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    names = [value.name.removeprefix(prefix) for value in enum.values if value.number]
    described = ", ".join(names) if len(names) <= _SHOWN else f"the values of {enum.full_name}"

    def check_enum(path: str, value: int, _: Named) -> None:
        if value not in known:
            raise InvalidField(path, f"must be one of {described}")

    return check_enum


def _most_entries(field: FieldDescriptor) -> float:
    if field.enum_type is not None:
        return len(field.enum_type.values)
    message = field.message_type
    return inf if message is not None and message.full_name == _LOGGED else MAX_ENTRIES


def _check_length(path: str, values: Sized, most: float) -> None:
    if len(values) > most:
        raise InvalidField(path, f"must have at most {most:,} entries")


def _check_text(path: str, value: str, _: Named) -> None:
    if "\0" in value:
        raise InvalidField(path, "must not contain a NUL character")


def _check_number(path: str, value: float, _: Named) -> None:
    if not isfinite(value):
        raise InvalidField(path, "must be a number")


def _check_time(path: str, value: Timestamp, _: Named) -> None:
    validation.timestamp(path, value)


def _check_duration(path: str, value: Duration, _: Named) -> None:
    seconds, nanos = value.seconds, value.nanos
    if abs(seconds) > _MAX_DURATION or abs(nanos) > 999_999_999 or seconds * nanos < 0:
        raise InvalidField(path, "must be a duration of at most 10,000 years, its parts of one sign")


def _check_nothing(_path: str, _value: object, _: Named) -> None:
    pass


def _is_required(field: FieldDescriptor) -> bool:
    behavior = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behavior


def _missing(field: FieldDescriptor) -> Callable[[Message], bool]:
    name = field.name
    if field.has_presence:
        return lambda message: not message.HasField(name)
    return lambda message: not getattr(message, name)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


_SHOWN = 12
_MAX_DURATION = 315_576_000_000
_SCALARS: dict[int, CheckValue] = {
    FieldDescriptor.TYPE_STRING: _check_text,
    FieldDescriptor.TYPE_DOUBLE: _check_number,
    FieldDescriptor.TYPE_FLOAT: _check_number,
}
_KNOWN: dict[str, CheckValue] = {
    "google.protobuf.Timestamp": _check_time,
    "google.protobuf.Duration": _check_duration,
}
