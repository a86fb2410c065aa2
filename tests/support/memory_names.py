"""Names without a name server."""

from __future__ import annotations

import socket
from typing import Any, cast

from mesh_core.egress import CheckedResolver
from mesh_core.egress.names import Found


class MemoryNames:
    """Stands for `Names`: every name has these addresses, `localhost` its own."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def addresses(self, host: str, _family: socket.AddressFamily) -> list[Found]:
        found = ("127.0.0.1",) if host == "localhost" else self._addresses
        return [(socket.AF_INET6 if ":" in address else socket.AF_INET, address) for address in found]


def resolver(*addresses: str, allow_private: bool = False) -> CheckedResolver:
    """A resolver for which every name has these addresses."""
    return CheckedResolver(allow_private=allow_private, names=cast("Any", MemoryNames(*addresses)))
