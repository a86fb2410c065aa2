"""The rule for addresses, as aiohttp asks for it."""

from __future__ import annotations

import socket
from ipaddress import ip_address

from aiohttp.abc import AbstractResolver, ResolveResult

from mesh_core.egress.addresses import (
    Address,
    AddressForbidden,
    check_spelling,
    is_forbidden,
    literal_address,
)
from mesh_core.egress.names import Names


class CheckedResolver(AbstractResolver):
    """Resolves names for aiohttp, and raises `AddressForbidden` unless all addresses of a name are allowed;
    `OSError` for one that has none.

    aiohttp does not call it for literal addresses: check those with `check_literal`.
    """

    def __init__(self, *, allow_private: bool, names: Names | None = None) -> None:
        self._allow_private = allow_private
        self._names = names or Names()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.check_literal(host)
        results: list[ResolveResult] = []
        for kind, address in await self._names.addresses(host, family):
            self._check(host, ip_address(address.partition("%")[0]))
            results.append(
                ResolveResult(
                    hostname=host,
                    host=address,
                    port=port,
                    family=kind,
                    proto=socket.IPPROTO_TCP,
                    flags=socket.AI_NUMERICHOST,
                )
            )
        return results

    def check_literal(self, host: str) -> None:
        """Raises `AddressForbidden` when `host` is a literal forbidden address, one in an odd spelling, or
        this machine by its name; other names pass.
        """
        check_spelling(host)
        name = host.lower().rstrip(".")
        if not self._allow_private and (name == "localhost" or name.endswith(".localhost")):
            raise AddressForbidden(f"{host} is this machine")
        address = literal_address(host)
        if address is not None:
            self._check(host, address)

    async def close(self) -> None:
        """Breaks off what is being looked up."""
        await self._names.close()

    def _check(self, host: str, address: Address) -> None:
        if not self._allow_private and is_forbidden(address):
            shown = host if host == str(address) else f"{host} ({address})"
            raise AddressForbidden(f"{shown} is not a public address")
