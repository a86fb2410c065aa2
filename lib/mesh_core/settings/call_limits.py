"""The section `limits`: how many calls of a class may come in how many seconds, from whom."""

from __future__ import annotations

import re

import msgspec

from mesh_core.settings.sections import InvalidSetting

CALL_CLASSES = ("message", "instance_operation", "query")
"""As the settings and the metrics name `sessionmesh.v1.CallClass`."""


class CallLimit(msgspec.Struct, frozen=True):
    """At most `calls` at once, which come back evenly within `seconds`."""

    calls: int
    seconds: float


Limits = dict[str, CallLimit]
"""By class. A class that is not there has no limit."""


class LimitsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Each a list such as `message=500/60s,query=1000/60s`."""

    account: tuple[str, ...] = ()
    tenant: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    key_address: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            parse_limits(name, getattr(self, name))


def parse_limits(name: str, entries: tuple[str, ...]) -> Limits:
    """The entries of one setting. Raises `InvalidSetting`."""
    found: Limits = {}
    for entry in entries:
        match = _ENTRY(entry)
        if match is None or match["name"] not in CALL_CLASSES:
            raise InvalidSetting(
                name, f"must be a list of class=calls/seconds such as query=1000/60s; classes: {_CLASSES}"
            )
        if match["name"] in found:
            raise InvalidSetting(name, f"must name each class once, and has {match['name']} twice")
        found[match["name"]] = CallLimit(int(match["calls"]), float(match["seconds"]))
    return found


_CLASSES = ", ".join(CALL_CLASSES)
_ENTRY = re.compile(
    r"(?P<name>[a-z_]+)=(?P<calls>[1-9][0-9]{0,8})/(?P<seconds>[1-9][0-9]{0,4})s", re.ASCII
).fullmatch
