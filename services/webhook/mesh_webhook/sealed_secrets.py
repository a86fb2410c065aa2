"""Endpoint secrets: sealed at rest, opened once per version of an endpoint."""

from __future__ import annotations

from datetime import UTC, datetime

from asyncpg.pgproto.pgproto import UUID

from mesh_core.sealing import Sealer
from mesh_webhook import signature
from mesh_webhook.endpoint import Endpoint


class SecretKeys:
    """Seals secrets, and has the keys that an endpoint's deliveries are signed with."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._opened: dict[UUID, tuple[int, bytes, bytes | None]] = {}

    async def seal(self, tenant: UUID, endpoint: UUID, secret: str) -> bytes:
        """The form that is stored with that endpoint, and opens with no other."""
        if not self._sealer.loaded(tenant):
            await self._sealer.load(tenant)
        return self._sealer.seal(tenant, secret.encode(), endpoint.bytes)

    async def open(self, endpoint: Endpoint) -> str:
        """The present secret, as its owner knows it."""
        return await self._open(endpoint, endpoint.secret)

    async def of(self, endpoint: Endpoint) -> list[bytes]:
        """Keys to sign with now: the present one, and the one before it while both are used."""
        opened = self._opened.get(endpoint.id)
        if opened is None or opened[0] != endpoint.version:
            opened = await self._open_all(endpoint)
        _, key, previous = opened
        if (
            previous is None
            or endpoint.previous_until is None
            or endpoint.previous_until <= datetime.now(UTC)
        ):
            return [key]
        return [key, previous]

    async def _open_all(self, endpoint: Endpoint) -> tuple[int, bytes, bytes | None]:
        if len(self._opened) >= _REMEMBERED:
            self._opened.clear()
        key = signature.secret_key(await self.open(endpoint))
        previous = None
        if endpoint.previous_secret is not None:
            previous = signature.secret_key(await self._open(endpoint, endpoint.previous_secret))
        opened = self._opened[endpoint.id] = (endpoint.version, key, previous)
        return opened

    async def _open(self, endpoint: Endpoint, sealed: bytes) -> str:
        return (await self._sealer.open(endpoint.tenant, sealed, endpoint.id.bytes)).decode()


_REMEMBERED = 10_000
