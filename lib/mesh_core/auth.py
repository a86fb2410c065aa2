"""Who calls: API keys, the identity that they give, and what it may do.

A key is `smk_`, its id in Crockford base32 (26 characters), `_`, and 43 characters of base64url: 256 random
bits, so a plain SHA-256 of the whole text is stored. Callers send it as metadata `authorization: Bearer
<key>`.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Protocol

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.errors import (
    InvalidField,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from mesh_core.ids import Prefix
from mesh_core.settings import AuthSettings
from sessionmesh.v1 import authorization_pb2
from sessionmesh.v1.authorization_pb2 import Scope

if TYPE_CHECKING:
    from mesh_core.database import Database

logger = structlog.get_logger(__name__)

TENANT_SCOPES = frozenset(
    {
        authorization_pb2.SCOPE_READ,
        authorization_pb2.SCOPE_SEND,
        authorization_pb2.SCOPE_MANAGE,
        authorization_pb2.SCOPE_TENANT_ADMIN,
    }
)
"""What a tenant's key may be given."""


class Role(IntEnum):
    """Whose key it is; the numbers are stored in `api_key.role`."""

    TENANT = 1
    ADMIN = 2
    MESH = 3


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller. `tenant_id` is None for administrators and for mesh parts that act for nobody."""

    role: Role
    tenant_id: UUID | None
    key_id: str
    scopes: frozenset[Scope.ValueType]

    def tenant_for(self, explicit: str, field: str = "tenant_id") -> UUID:
        """The tenant that a request is about, by its `explicit` field, which administrators must fill.

        Raises `NotFound` when a tenant's key names another tenant, `InvalidField` when an administrator names
        none.
        """
        if self.tenant_id is None:
            if not explicit:
                raise InvalidField(field, "is required with an administrator's key")
            return ids.decode(Prefix.TENANT, explicit, field)
        if explicit and explicit != ids.encode(Prefix.TENANT, self.tenant_id):
            raise NotFound("tenant", explicit)
        return self.tenant_id

    def require_tenant(self) -> UUID:
        """The caller's own tenant; `PermissionDenied` for an administrator, who has none."""
        if self.tenant_id is None:
            raise PermissionDenied("the call needs a tenant's key", "SCOPE_MISSING")
        return self.tenant_id

    def sees(self, tenant: UUID) -> bool:
        """Whether that tenant's resources exist for this caller."""
        return self.tenant_id is None or self.tenant_id == tenant

    def check_sees(self, tenant: UUID, resource: str, name: str) -> None:
        """Raise `NotFound` for `resource` (a kind) `name` when it is another tenant's."""
        if not self.sees(tenant):
            raise NotFound(resource, name)


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as stored. `tenant_id` is None for an administrator's."""

    role: Role
    tenant_id: UUID | None
    hash: bytes
    scopes: frozenset[Scope.ValueType]
    expire_time: datetime | None = None
    revoked: bool = False
    tenant_suspended: bool = False
    previous_hash: bytes | None = None
    previous_expire_time: datetime | None = None

    def matches(self, digest: bytes) -> bool:
        """Whether `digest` is of the key's secret, or of the one before it while their overlap lasts."""
        if compare_digest(digest, self.hash):
            return True
        return (
            self.previous_hash is not None
            and compare_digest(digest, self.previous_hash)
            and self.previous_expire_time is not None
            and self.previous_expire_time > datetime.now(UTC)
        )


Lookup = Callable[[UUID], Awaitable[KeyRow | None]]
"""Finds a key by its id; raises whatever the database raises when it is away."""


class Authenticator(Protocol):
    """What the server chassis asks of every call. Both raise `Unauthenticated` or `PermissionDenied`."""

    def recall(self, authorization: str, tenant: str) -> Identity | None:
        """The identity, without waiting; None when it must be looked up."""

    async def authenticate(self, authorization: str, tenant: str) -> Identity:
        """The identity behind the metadata values `authorization` and `x-mesh-tenant` ("" when absent)."""


class KeyAuthenticator:
    """Knows the administrator's and the mesh's key by hash, all others through `lookup` and a cache.

    A key is looked up again when it was seen longer than 10 s ago. While the database is away the last answer
    stays good. Only one look-up per key runs at a time, and its failure is not tried again for a second.
    """

    def __init__(self, lookup: Lookup, settings: AuthSettings) -> None:
        self._lookup = lookup
        self._mesh = _hash(settings.mesh_key) if settings.mesh_key else None
        self._bootstrap = _hash(settings.bootstrap_key) if settings.bootstrap_key else None
        self._entries: dict[str, _Entry] = {}
        self._mesh_identities: dict[str, Identity] = {}

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
        digest = _hash(token)
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
        return entry.judge(digest, now)

    async def authenticate(self, authorization: str, tenant: str) -> Identity:
        """See `Authenticator`; also raises `Unavailable` for a key never seen while the database is away."""
        identity = self.recall(authorization, tenant)
        if identity is not None:
            return identity
        token = authorization[7:]
        name = token[4:30]
        entry = self._entries.get(name)
        if entry is None:
            if not _looks_like_key(token):
                raise _invalid()
            entry = self._remember(name, _Entry(_key_uuid(name)))
        elif time.monotonic() < entry.fresh_until:
            # Asked although the answer is fresh: a secret that does not match.
            entry.surprised_until = time.monotonic() + _RETRY
        await asyncio.shield(entry.refresh or self._refresh(name, entry))
        identity = entry.judge(_hash(token), time.monotonic())
        if identity is None:
            raise _invalid()
        return identity

    def _mesh_identity(self, tenant: str) -> Identity:
        tenant_id = ids.decode(Prefix.TENANT, tenant, "x-mesh-tenant") if tenant else None
        if len(self._mesh_identities) >= _REMEMBERED:
            self._mesh_identities.clear()
        identity = Identity(Role.MESH, tenant_id, "mesh", _MESH_SCOPES)
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
        except Exception as error:  # whatever the database is away with, the last answer stays good
            logger.warning("keys cannot be looked up", error=repr(error))
            entry.failed()
        else:
            entry.found(row)
        finally:
            entry.refresh = None


def current_identity() -> Identity:
    """Who makes the call that this task serves; raises `Unauthenticated` in a public method."""
    identity = _identity.get()
    if identity is None:
        raise Unauthenticated("the call has no identity", "CREDENTIALS_MISSING")
    return identity


def assume(identity: Identity | None) -> None:
    """Make `identity` the caller for the rest of this task, as the chassis does for every call."""
    _identity.set(identity)


def check_scope(identity: Identity, scope: Scope.ValueType) -> None:
    """Raise `PermissionDenied` when the identity's key lacks `scope`."""
    if scope not in identity.scopes:
        name = Scope.Name(scope).removeprefix("SCOPE_")
        raise PermissionDenied(f"the key lacks the scope {name}", "SCOPE_MISSING", metadata={"scope": name})


def new_api_key() -> tuple[UUID, str, bytes]:
    """A fresh key: its id, the text to show once, and the hash to store."""
    key_id = ids.new_uuid()
    return key_id, *new_secret(key_id)


def new_secret(key_id: UUID) -> tuple[str, bytes]:
    """A fresh secret for an existing key: the text to show once, and the hash to store."""
    text = f"smk_{ids.encode(Prefix.KEY, key_id)[4:]}_{secrets.token_urlsafe(32)}"
    return text, _hash(text)


def scope_names(scopes: frozenset[Scope.ValueType]) -> list[str]:
    """The form that `api_key.scopes` stores: READ, SEND, MANAGE, TENANT_ADMIN."""
    return sorted(Scope.Name(scope).removeprefix("SCOPE_") for scope in scopes)


def scopes_of(names: list[str]) -> frozenset[Scope.ValueType]:
    """Scopes by their stored names; one that this version does not know grants nothing."""
    known = {Scope.Name(scope).removeprefix("SCOPE_"): scope for scope in TENANT_SCOPES}
    return frozenset(known[name] for name in names if name in known)


def postgres_keys(database: Database) -> Lookup:
    """The look-up in the tables `api_key` and `tenant`."""

    async def lookup(key_id: UUID) -> KeyRow | None:
        row = await database.pool.fetchrow(_SELECT, key_id)
        if row is None:
            return None
        role = Role(row["role"])
        return KeyRow(
            role,
            row["tenant"],
            row["hash"],
            _ADMIN_SCOPES if role is Role.ADMIN else scopes_of(row["scopes"]),
            row["expire_time"],
            row["revoked"],
            row["suspended"],
            row["previous_hash"],
            row["previous_expire_time"],
        )

    return lookup


# A look-up is a use; it is noted once a minute.
_SELECT = """
WITH used AS (
  UPDATE api_key SET last_use_time = now()
  WHERE id = $1 AND revoke_time IS NULL AND coalesce(last_use_time < now() - interval '1 minute', true)
)
SELECT k.role, k.tenant, k.hash, k.scopes, k.expire_time, k.revoke_time IS NOT NULL AS revoked,
       coalesce(t.state <> 1, false) AS suspended, k.previous_hash, k.previous_expire_time
FROM api_key k LEFT JOIN tenant t ON t.id = k.tenant
WHERE k.id = $1
"""

_FRESH = 10.0
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
    surprised_until: float = 0.0
    refresh: asyncio.Task[None] | None = field(default=None, repr=False)

    def found(self, row: KeyRow | None) -> None:
        self.row = row
        self.answered = True
        self.serve_stale = False
        self.fresh_until = time.monotonic() + (_FRESH if row else _FRESH_UNKNOWN)
        key = ids.encode(Prefix.KEY, self.key_id)
        if row is not None:
            scopes = row.scopes | {authorization_pb2.SCOPE_PUBLIC}
            self.identity = Identity(row.role, row.tenant_id, key, scopes)

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
            raise _invalid() if self.answered else _away()
        if not row.matches(digest):
            if now >= self.surprised_until:
                return None
            raise _invalid()
        if row.revoked or (row.expire_time is not None and row.expire_time <= datetime.now(UTC)):
            raise _invalid()
        if row.tenant_suspended:
            raise PermissionDenied("the tenant is suspended", "TENANT_SUSPENDED")
        return self.identity


def _hash(text: str) -> bytes:
    return sha256(text.encode()).digest()


def _looks_like_key(token: str) -> bool:
    return len(token) == 74 and token.startswith("smk_") and token[30] == "_"


def _key_uuid(name: str) -> UUID:
    try:
        return ids.decode(Prefix.KEY, f"key_{name}", "authorization")
    except InvalidField:
        raise _invalid() from None


def _invalid() -> Unauthenticated:
    return Unauthenticated("the key is unknown, revoked or expired", "CREDENTIALS_INVALID")


def _away() -> Unavailable:
    return Unavailable("keys cannot be looked up now", "BACKEND_UNAVAILABLE", retry_after=_RETRY)


_ADMIN_SCOPES = TENANT_SCOPES | {authorization_pb2.SCOPE_PUBLIC, authorization_pb2.SCOPE_OPERATOR}
_MESH_SCOPES = _ADMIN_SCOPES | {authorization_pb2.SCOPE_MESH}
_BOOTSTRAP = Identity(Role.ADMIN, None, "bootstrap", _ADMIN_SCOPES)
_identity: ContextVar[Identity | None] = ContextVar("identity", default=None)
