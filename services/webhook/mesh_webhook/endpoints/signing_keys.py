"""The secrets of endpoints: sealed in the database, opened once for each version of an endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from asyncpg.pgproto.pgproto import UUID

from mesh_core.sealing import Sealer
from mesh_webhook.endpoints import signature
from mesh_webhook.endpoints.endpoint import Endpoint


class SigningKeys:
    """Seals and opens endpoints' secrets, and knows the keys that deliveries are signed with."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._opened: dict[UUID, _OpenedKeys] = {}

    async def seal(self, tenant: UUID, endpoint: UUID, secret: str) -> bytes:
        """The secret as it is stored with that endpoint; it can be opened for that endpoint only."""
        if not self._sealer.loaded(tenant):
            await self._sealer.load(tenant)
        return self._sealer.seal(tenant, secret.encode(), endpoint.bytes)

    async def secret(self, endpoint: Endpoint) -> str:
        """The current secret in the form that callers know, `whsec_...`."""
        return await self._open(endpoint, endpoint.secret)

    async def current(self, endpoint: Endpoint) -> list[bytes]:
        """The keys to sign with now: the current one, then the one before it while a rotation overlaps."""
        opened = self._opened.get(endpoint.id)
        if opened is None or opened.version != endpoint.version:
            opened = await self._open_keys(endpoint)
        until = endpoint.previous_until
        if opened.previous is None or until is None or until <= datetime.now(UTC):
            return [opened.key]
        return [opened.key, opened.previous]

    async def _open_keys(self, endpoint: Endpoint) -> _OpenedKeys:
        if len(self._opened) >= _MAX_CACHED_ENDPOINTS:
            self._opened.clear()
        key = signature.secret_key(await self.secret(endpoint))
        previous = None
        if endpoint.previous_secret is not None:
            previous = signature.secret_key(await self._open(endpoint, endpoint.previous_secret))
        opened = self._opened[endpoint.id] = _OpenedKeys(endpoint.version, key, previous)
        return opened

    async def _open(self, endpoint: Endpoint, sealed: bytes) -> str:
        return (await self._sealer.open(endpoint.tenant, sealed, endpoint.id.bytes)).decode()


@dataclass(frozen=True, slots=True)
class _OpenedKeys:
    """The keys of an endpoint's secrets as of one version of the endpoint."""

    version: int
    key: bytes
    previous: bytes | None


_MAX_CACHED_ENDPOINTS = 10_000
