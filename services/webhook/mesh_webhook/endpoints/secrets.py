"""What is secret of endpoints: keys and headers, sealed in the database, opened once for each version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson
from asyncpg.pgproto.pgproto import UUID

from mesh_core.sealing import Sealer
from mesh_webhook.endpoints import signature
from mesh_webhook.endpoints.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class OpenedSecrets:
    """What a delivery needs. It is signed with each of `keys`, the current one first."""

    keys: tuple[bytes, ...] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)


class EndpointSecrets:
    """Seals and opens endpoints' secrets and headers. What is sealed can be opened for its endpoint only."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._opened: dict[UUID, _Opened] = {}

    async def seal_secret(self, tenant: UUID, endpoint: UUID, secret: str) -> bytes:
        """A secret, `whsec_...`, as it is stored with that endpoint."""
        return await self._seal(tenant, secret.encode(), endpoint.bytes)

    async def seal_headers(self, tenant: UUID, endpoint: UUID, headers: Mapping[str, str]) -> bytes | None:
        """Headers as they are stored with that endpoint; None for none."""
        if not headers:
            return None
        return await self._seal(tenant, orjson.dumps(dict(headers)), endpoint.bytes + _HEADERS)

    async def secret(self, endpoint: Endpoint) -> str:
        """The current secret in the form that callers know, `whsec_...`."""
        return await self._open_secret(endpoint, endpoint.secret)

    async def opened(self, endpoint: Endpoint) -> OpenedSecrets:
        """The headers, and the keys to sign with now: former ones, too, each until its promised end."""
        known = self._opened.get(endpoint.id)
        if known is None or known.version != endpoint.version:
            known = await self._open_all(endpoint)
        if not known.former:
            return known.current
        now = datetime.now(UTC)
        former = tuple(key for key, until in known.former if until > now)
        return OpenedSecrets(known.current.keys + former, known.current.headers)

    async def _open_all(self, endpoint: Endpoint) -> _Opened:
        if len(self._opened) >= _MAX_CACHED_ENDPOINTS:
            self._opened.clear()
        headers: dict[str, str] = {}
        if endpoint.headers is not None:
            context = endpoint.id.bytes + _HEADERS
            headers = orjson.loads(await self._sealer.open(endpoint.tenant, endpoint.headers, context))
        key = signature.secret_key(await self.secret(endpoint))
        former = [
            (signature.secret_key(await self._open_secret(endpoint, one.secret)), one.until)
            for one in endpoint.former_secrets
        ]
        opened = _Opened(endpoint.version, OpenedSecrets((key,), headers), tuple(former))
        self._opened[endpoint.id] = opened
        return opened

    async def _open_secret(self, endpoint: Endpoint, sealed: bytes) -> str:
        return (await self._sealer.open(endpoint.tenant, sealed, endpoint.id.bytes)).decode()

    async def _seal(self, tenant: UUID, plain: bytes, context: bytes) -> bytes:
        if not self._sealer.loaded(tenant):
            await self._sealer.load(tenant)
        return self._sealer.seal(tenant, plain, context)


@dataclass(frozen=True, slots=True)
class _Opened:
    """The secrets of one version of an endpoint; former keys, with until when each signs, beside them."""

    version: int
    current: OpenedSecrets
    former: tuple[tuple[bytes, datetime], ...] = field(repr=False)


_HEADERS = b"headers"
_MAX_CACHED_ENDPOINTS = 10_000
