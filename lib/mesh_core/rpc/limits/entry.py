"""Where a call enters the mesh, and from which address: it is counted there and nowhere else."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from hmac import compare_digest
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Self
from urllib.parse import unquote

from mesh_core.errors import MeshError
from mesh_core.rpc.auth import Identity, Role, current_identity
from mesh_core.rpc.limits.limiter import CallLimiter, Counted
from mesh_core.rpc.limits.shared import SharedCounts
from mesh_core.settings import AuthSettings, LimitsSettings, RedisSettings, ServerSettings
from sessionmesh.v1.authorization_pb2 import CALL_CLASS_MESSAGE, CallClass

RELAYED_KEY = "x-mesh-relayed"
"""Metadata of a call that another part of the mesh passes on with the caller's own credentials."""

Address = IPv4Address | IPv6Address


def relayed_metadata(mesh_key: str) -> tuple[tuple[str, str], ...]:
    """What says that a call was counted: known only to those who have the mesh's key. None without one."""
    return ((RELAYED_KEY, _proof(mesh_key)),) if mesh_key else ()


class RelayedCalls:
    """Tells relayed calls from those that claim to be."""

    __slots__ = ("_proof",)

    def __init__(self, mesh_key: str) -> None:
        self._proof = _proof(mesh_key).encode() if mesh_key else b""

    def __bool__(self) -> bool:
        """Whether there is a mesh key, so that relayed calls can be told at all."""
        return bool(self._proof)

    def __contains__(self, proof: str) -> bool:
        return bool(proof and self._proof) and compare_digest(proof.encode(), self._proof)


class Sources:
    """Finds the source address of calls. `trusted` are the networks of the proxies in front."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        networks = tuple(ip_network(network) for network in trusted)
        self._trusted = networks
        self._of_peer = lru_cache(maxsize=4096)(_peer_address)

    def of(self, context: Any) -> str:
        """The address that a call came from, "" when it came over a local socket; of an IPv6 address its
        network of 64 bits, which is one customer's.

        Behind a trusted proxy it is the last address of `x-forwarded-for` that is not one.
        """
        address = self._of_peer(context.peer())
        if address is None:
            return ""
        if self._trusted and self._is_proxy(address):
            address = self._forwarded_for(address, context.invocation_metadata())
        return _shown(address)

    def are_callers(self, context: Any) -> bool:
        """Whether a call came over its caller's own connection, not over one that a trusted proxy shares
        among many.
        """
        address = self._of_peer(context.peer())
        return address is not None and not self._is_proxy(address)

    def _is_proxy(self, address: Address) -> bool:
        return any(_is_in(address, network) for network in self._trusted)

    def _forwarded_for(self, proxy: Address, metadata: Iterable[tuple[str, str]]) -> Address:
        header = ",".join(value for key, value in metadata if key == "x-forwarded-for")
        last = proxy
        for text in reversed(header.split(",")):
            try:
                last = _unmapped(ip_address(_without_port(text.strip())))
            except ValueError:  # what stands before it was written by nobody that is trusted
                break
            if not self._is_proxy(last):
                break
        return last


@dataclass(frozen=True, slots=True)
class Entry:
    """What a server knows of calls that enter there. Without a limiter none is counted."""

    limiter: CallLimiter | None = None
    sources: Sources = field(default_factory=Sources)
    relayed: RelayedCalls = field(default_factory=lambda: RelayedCalls(""))
    _counts: tuple[SharedCounts, ...] = ()

    @classmethod
    def of(
        cls, server: ServerSettings, auth: AuthSettings, redis: RedisSettings, limits: LimitsSettings
    ) -> Self:
        """As the settings say; without a Redis calls are not limited."""
        counts = (SharedCounts(redis.url), SharedCounts(redis.url, patient=True)) if redis.url else ()
        limiter = CallLimiter(limits, *counts) if counts else None
        return cls(limiter, Sources(server.trusted_proxies), RelayedCalls(auth.mesh_key), counts)

    async def close(self) -> None:
        """Close the connections to Redis."""
        for counts in self._counts:
            await counts.close()

    def admit(
        self, identity: Identity, call_class: CallClass.ValueType, account_id: str, context: Any
    ) -> Awaitable[None] | None:
        """Count a call that enters here; what to wait for, None when it is admitted already."""
        limiter = self.limiter
        if limiter is None or identity.role is Role.MESH:
            return None
        call = Counted(identity, self.sources.of(context) if limiter.by_address else "", call_class)
        return None if limiter.admit(call, account_id) else limiter.wait(call, account_id)

    async def admit_messages(self, context: Any, account_ids: Sequence[str]) -> list[MeshError | None]:
        """Count a message for each account, of a call that this task serves; why each is refused."""
        identity = current_identity()
        limiter = self.limiter
        if limiter is None or identity.role is Role.MESH or self.is_relayed(context):
            return [None] * len(account_ids)
        source = self.sources.of(context) if limiter.by_address else ""
        return await limiter.admit_all(Counted(identity, source, CALL_CLASS_MESSAGE), account_ids)

    def is_relayed(self, context: Any) -> bool:
        """Whether another part of the mesh passes the call on, which entered there."""
        return any(
            key == RELAYED_KEY and value in self.relayed for key, value in context.invocation_metadata()
        )


def _peer_address(peer: str) -> Address | None:
    """The address in gRPC's `ipv4:1.2.3.4:5`, `ipv6:[::1]:5` or, in older forms, `ipv6:%5B::1%5D:5`."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return None
    try:
        return _unmapped(ip_address(unquote(rest).rpartition(":")[0].strip("[]").partition("%")[0]))
    except ValueError:
        return None


def _without_port(text: str) -> str:
    """Some proxies write `1.2.3.4:56` and `[::1]:56`."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _unmapped(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _is_in(address: Address, network: IPv4Network | IPv6Network) -> bool:
    return address.version == network.version and address in network


def _shown(address: Address) -> str:
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, 64), strict=False).network_address)
    return str(address)


def _proof(mesh_key: str) -> str:
    return sha256(b"relayed:" + mesh_key.encode()).hexdigest()
