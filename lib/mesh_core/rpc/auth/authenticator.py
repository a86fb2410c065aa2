"""From a call's metadata to its identity, without a query per call."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hmac import compare_digest
from typing import Protocol

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.errors import InvalidField, PermissionDenied, Unauthenticated, Unavailable
from mesh_core.ids import Prefix
from mesh_core.metrics.caches import hits, misses
from mesh_core.rpc.auth.guesses import Guesses
from mesh_core.rpc.auth.identity import ADMIN_SCOPES, BOOTSTRAP_KEY_ID, MESH_SCOPES, Identity, Role
from mesh_core.rpc.auth.keys import KeyRow, Lookup, looks_like_key, secret_hash
from mesh_core.settings import AuthSettings
from sessionmesh.v1 import authorization_pb2

logger = structlog.get_logger(__name__)

_HITS, _MISSES = hits("keys"), misses("keys")


class Authenticator(Protocol):
    """What the server chassis asks of every call. Both raise `Unauthenticated` or `PermissionDenied`."""

    def recall(self, authorization: str, tenant: str) -> Identity | None:
        """The identity, without waiting; None when it must be looked up."""

    async def authenticate(self, authorization: str, tenant: str, source: str = "") -> Identity:
        """The identity behind the metadata values `authorization` and `x-mesh-tenant` ("" when absent).

        `source` is the address that the call came from, "" where it is not known. Raises `ResourceExhausted`
        when too many unknown keys came from there.
        """


class KeyAuthenticator:
    """Knows the administrator's and the mesh's key by hash, all others through `lookup` and a cache.

    A key is looked up again when it was seen longer than `FRESH_SECONDS` ago. While the database is
    unavailable the last answer stays good. Only one look-up per key runs at a time, and its failure is not
    tried again for a second. What lacks a key's checksum is not looked up, nor are keys never seen that come
    from an address that tried many unknown ones.
    """

    def __init__(self, lookup: Lookup, settings: AuthSettings) -> None:
        self._lookup = lookup
        self._mesh = secret_hash(settings.mesh_key) if settings.mesh_key else None
        self._bootstrap = secret_hash(settings.bootstrap_key) if settings.bootstrap_key else None
        self._entries: dict[str, _Entry] = {}
        self._mesh_identities: dict[str, Identity] = {}
        self._guesses = Guesses()

    def recall(self, authorization: str, tenant: str) -> Identity | None:
        """See `Authenticator`."""
        if authorization[:7].lower() != "bearer ":
            raise Unauthenticated(
                "credentials are missing: send metadata 'authorization: Bearer <key>'"
                if not authorization
                else "credentials must be 'Bearer <key>'",
                "CREDENTIALS_MISSING",
            )
        token = authorization[7:]
        digest = secret_hash(token)
        if self._mesh is not None and compare_digest(digest, self._mesh):
            return self._mesh_identities.get(tenant) or self._mesh_identity(tenant)
        if self._bootstrap is not None and compare_digest(digest, self._bootstrap):
            return _BOOTSTRAP
        entry = self._entries.get(token[4:30])
        if entry is None:
            return None
        now = time.monotonic()
        if now >= entry.fresh_until:
            if not entry.serve_stale:
                return None
            if entry.refresh is None:
                self._refresh(token[4:30], entry)
        identity = entry.judge(digest, now)
        if identity is not None:
            _HITS.inc()
        return identity

    async def authenticate(self, authorization: str, tenant: str, source: str = "") -> Identity:
        """See `Authenticator`; also raises `Unavailable` for a key never seen while the database is
        unavailable.
        """
        identity = self.recall(authorization, tenant)
        if identity is not None:
            return identity
        token = authorization[7:]
        if not looks_like_key(token):
            raise _invalid()
        name = token[4:30]
        entry = self._entries.get(name)
        if entry is None:
            self._guesses.check(source)
            entry = self._remember(name, _Entry(_key_uuid(name)))
        elif entry.row is None:
            self._guesses.check(source)
        elif time.monotonic() < entry.fresh_until:
            # Asked although the answer is fresh: a secret that does not match.
            entry.mismatched_until = time.monotonic() + _RETRY
        if entry.refresh is None:
            await self._look_up(name, entry, source)
        else:
            await asyncio.shield(entry.refresh)
        identity = entry.judge(secret_hash(token), time.monotonic())
        if identity is None:
            raise _invalid()
        return identity

    async def _look_up(self, name: str, entry: _Entry, source: str) -> None:
        """Look it up for a caller; it counts as a guess from the beginning, since many may be under way."""
        _MISSES.inc()
        self._guesses.begin(source)
        await asyncio.shield(self._refresh(name, entry))
        if entry.row is not None or not entry.answered:
            self._guesses.was_none(source)

    def _mesh_identity(self, tenant: str) -> Identity:
        tenant_id = ids.decode(Prefix.TENANT, tenant, "x-mesh-tenant") if tenant else None
        if len(self._mesh_identities) >= _REMEMBERED:
            self._mesh_identities.clear()
        identity = Identity(Role.MESH, tenant_id, "mesh", MESH_SCOPES)
        self._mesh_identities[tenant] = identity
        return identity

    def _remember(self, name: str, entry: _Entry) -> _Entry:
        if len(self._entries) >= _REMEMBERED:
            # Those that a guesser filled the cache with go first; real keys are looked up again when they
            # must be.
            unknown = [key for key, old in self._entries.items() if old.row is None and old.refresh is None]
            for key in unknown or list(self._entries)[: _REMEMBERED // 2]:
                del self._entries[key]
        self._entries[name] = entry
        return entry

    def _refresh(self, name: str, entry: _Entry) -> asyncio.Task[None]:
        entry.refresh = asyncio.create_task(self._ask(entry), name=f"auth key {name}")
        return entry.refresh

    async def _ask(self, entry: _Entry) -> None:
        """Never raises: the outcome is in the entry, for all that wait for it."""
        try:
            async with asyncio.timeout(_LOOKUP_TIMEOUT):
                row = await self._lookup(entry.key_id)
        except Exception as error:  # whatever is wrong, the last answer stays good
            logger.warning("keys cannot be looked up", error=repr(error))
            entry.failed()
        else:
            entry.found(row)
        finally:
            entry.refresh = None


FRESH_SECONDS = 5.0
"""How long an answer is good: a revoked key may be served as long."""
_FRESH_UNKNOWN = 1.0
_RETRY = 1.0
_LOOKUP_TIMEOUT = 2.0
_REMEMBERED = 10_000


@dataclass(slots=True, eq=False)
class _Entry:
    """What is known of one key id."""

    key_id: UUID
    row: KeyRow | None = None
    identity: Identity | None = None
    fresh_until: float = 0.0
    answered: bool = False
    serve_stale: bool = False
    mismatched_until: float = 0.0
    refresh: asyncio.Task[None] | None = field(default=None, repr=False)

    def found(self, row: KeyRow | None) -> None:
        self.row = row
        self.answered = True
        self.serve_stale = False
        self.fresh_until = time.monotonic() + (FRESH_SECONDS if row else _FRESH_UNKNOWN)
        key = ids.encode(Prefix.KEY, self.key_id)
        if row is not None:
            scopes = row.scopes | {authorization_pb2.SCOPE_PUBLIC}
            self.identity = Identity(
                row.role, row.tenant_id, key, scopes, row.account_ids, row.calls_per_second
            )

    def failed(self) -> None:
        self.serve_stale = self.answered
        self.fresh_until = time.monotonic() + _RETRY

    def judge(self, digest: bytes, now: float) -> Identity | None:
        """The identity if the key's hash is `digest` and it is valid at this moment.

        None when it must be looked up again: a secret that does not match may be a rotated one, which is
        worth one look-up a second.
        """
        row = self.row
        if row is None or self.identity is None:
            raise _invalid() if self.answered else _unavailable()
        if not row.matches(digest):
            if now >= self.mismatched_until:
                return None
            raise _invalid()
        if row.revoked or (row.expire_time is not None and row.expire_time <= datetime.now(UTC)):
            raise _invalid()
        if row.tenant_suspended:
            raise PermissionDenied("the tenant is suspended", "TENANT_SUSPENDED")
        return self.identity


def _key_uuid(name: str) -> UUID:
    try:
        return ids.decode(Prefix.KEY, f"key_{name}", "authorization")
    except InvalidField:
        raise _invalid() from None


def _invalid() -> Unauthenticated:
    return Unauthenticated("the key is unknown, revoked or expired", "CREDENTIALS_INVALID")


def _unavailable() -> Unavailable:
    return Unavailable("keys cannot be looked up now", "BACKEND_UNAVAILABLE", retry_after=_RETRY)


_BOOTSTRAP = Identity(Role.ADMIN, None, BOOTSTRAP_KEY_ID, ADMIN_SCOPES)
