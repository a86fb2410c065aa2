"""Checks what `connect` is given: target, transport and API key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mesh_client.errors import InvalidArgument

TransportChoice = Literal["auto", "xds", "plain"]


@dataclass(frozen=True, slots=True)
class Target:
    """The routers, each host:port or a gRPC target; or, with `xds`, the listener of the user's bootstrap."""

    routers: tuple[str, ...]
    xds: str = ""

    def __str__(self) -> str:
        return self.xds or ", ".join(self.routers)


def parse_target(target: str | Sequence[str]) -> Target:
    """Raises `InvalidArgument` with what is expected."""
    given = target.split(",") if isinstance(target, str) and not _SCHEME.match(target) else target
    entries = [given] if isinstance(given, str) else list(given)
    entries = [entry.strip() for entry in entries]
    if not any(entries):
        raise InvalidArgument.of("target", "is empty: give the router's address, host:port")
    if len(entries) == 1 and entries[0].startswith("xds:"):
        return Target((), entries[0])
    for entry in entries:
        _check(entry)
    return Target(tuple(dict.fromkeys(entries)))


def check_transport(transport: str, target: Target) -> None:
    """Raises `InvalidArgument` for an unknown transport, and for one that the target excludes."""
    if transport not in ("auto", "xds", "plain"):
        raise InvalidArgument.of("transport", f"must be auto, xds or plain, not {transport!r}")
    if transport == "plain" and target.xds:
        raise InvalidArgument.of(
            "transport", f"{target.xds} is an xDS target: give a router's address for plain"
        )


def check_api_key(api_key: str) -> None:
    """Raises `InvalidArgument` for what can be no key, without repeating it: it may be a secret."""
    if not api_key:
        raise InvalidArgument.of("api_key", "is empty")
    if not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise InvalidArgument.of("api_key", "has blanks, line ends or other characters that no key has")


def _check(entry: str) -> None:
    if "://" in entry and not _SCHEME.match(entry):
        raise InvalidArgument.of(
            "target", f"{entry!r} must be host:port, without {entry.partition(':')[0]}://"
        )
    if entry.startswith("xds:"):
        raise InvalidArgument.of("target", "an xDS target stands alone")
    if _SCHEME.match(entry):
        return
    found = _HOST_PORT.fullmatch(entry)
    if not found or not 0 < int(found["port"]) < 65536:
        raise InvalidArgument.of("target", f"{entry!r} is not host:port")


_SCHEME = re.compile(r"(xds|dns|ipv4|ipv6|unix|unix-abstract):(?!\d+$)")
_HOST_PORT = re.compile(r"(?P<host>\[[0-9a-fA-F:.%\w]+\]|[^\s:/,\[\]@]+):(?P<port>\d{1,5})")
