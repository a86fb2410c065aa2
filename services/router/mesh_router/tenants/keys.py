"""API keys: made, rotated and revoked by administrators, and by tenants for themselves."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy

from mesh_core import ids, validation
from mesh_core.database import Database
from mesh_core.database.requests import OPERATOR_SCOPE, Method, claim_request, request_digest
from mesh_core.errors import FailedPrecondition, InvalidField, NotFound, PermissionDenied
from mesh_core.ids import Prefix
from mesh_core.paging import Pager
from mesh_core.rpc.auth import (
    TENANT_SCOPES,
    Role,
    current_identity,
    earlier_secrets,
    new_api_key,
    new_secret,
    scope_names,
)
from mesh_router.tenants.rows import key_message
from sessionmesh.v1 import authorization_pb2, tenant_pb2

DEFAULT_OVERLAP = timedelta(days=1)
MAX_OVERLAP = timedelta(days=30)
MAX_EARLIER_SECRETS = 5
"""Most secrets of a key that are good beside the present one."""
MAX_ACCOUNTS = 1000
"""Most accounts that a key can be limited to."""

Connection = PoolConnectionProxy


@dataclass(frozen=True, slots=True)
class KeyFields:
    """The fields of a new key, checked. An administrator's key has no scopes of its own; `account_ids` is
    None for a key that is not limited to accounts.
    """

    role: Role
    display_name: str
    scopes: frozenset[authorization_pb2.Scope.ValueType]
    account_ids: list[UUID] | None
    expire_time: datetime | None


def checked_key(request: tenant_pb2.CreateApiKeyRequest) -> KeyFields:
    """The fields that a request gives a new key. Raises `InvalidField`."""
    scopes = _scopes(request)
    administrator = authorization_pb2.SCOPE_OPERATOR in scopes
    return KeyFields(
        Role.ADMIN if administrator else Role.TENANT,
        validation.visible_text("display_name", request.display_name),
        frozenset() if administrator else scopes,
        _account_ids(request, scopes),
        _expire_time(request),
    )


class ApiKeys:
    """The keys' half of TenantService."""

    def __init__(self, database: Database, pager: Pager) -> None:
        self._callers = database.callers
        self._pager = pager

    async def create(self, request: tenant_pb2.CreateApiKeyRequest) -> tenant_pb2.CreateApiKeyResponse:
        """A repeat of the same request returns the key without its secret."""
        request_id = validation.request_id(request.request_id)
        fields = checked_key(request)
        tenant = _owner(request, fields.role)
        key_id, secret, secret_hash = new_api_key()
        async with self._transaction() as connection:
            if tenant is not None and not await connection.fetchval(_SHARE_TENANT, tenant):
                raise NotFound("tenant", request.tenant_id)
            first = await claim_request(
                connection,
                tenant or OPERATOR_SCOPE,
                Method.CREATE_API_KEY,
                request_id,
                request_digest(request),
                key_id,
            )
            if first is not None:
                row = await connection.fetchrow(_GET, first)
                return tenant_pb2.CreateApiKeyResponse(api_key=key_message(_found(row, first)))
            check_ahead(fields.expire_time)
            await _check_accounts(connection, tenant, fields.account_ids)
            row = await connection.fetchrow(
                _INSERT,
                key_id,
                tenant,
                fields.display_name,
                secret_hash,
                scope_names(fields.scopes),
                fields.role,
                fields.expire_time,
                fields.account_ids,
            )
        return tenant_pb2.CreateApiKeyResponse(api_key=key_message(_found(row, key_id)), secret=secret)

    async def list(self, request: tenant_pb2.ListApiKeysRequest) -> bytes:
        """A serialised ListApiKeysResponse."""
        identity = current_identity()
        administrators = identity.tenant_id is None and not request.tenant_id
        tenant = None if administrators else identity.tenant_for(request.tenant_id)
        page = self._pager.page(request, tenant.bytes if tenant else b"")
        pool = self._callers.of(identity.tenant_id)

        async def read(after: UUID | None, limit: int) -> list[asyncpg.Record]:
            return await pool.search(_LIST, tenant, after, limit)

        return await self._pager.answer(
            page, identity.tenant_id, read, key_message, tenant_pb2.ListApiKeysResponse
        )

    async def rotate(self, request: tenant_pb2.RotateApiKeyRequest) -> tenant_pb2.RotateApiKeyResponse:
        """The present secret stays valid for `overlap`, and those before it as long as they were promised to.

        A repeat of the same request returns the key without its secret.
        """
        request_id = validation.request_id(request.request_id)
        key_id = ids.decode(Prefix.KEY, request.key_id, "key_id")
        overlap = DEFAULT_OVERLAP
        if request.HasField("overlap"):
            overlap = validation.duration("overlap", request.overlap, least=timedelta(0), most=MAX_OVERLAP)
        secret, secret_hash = new_secret(key_id)
        async with self._transaction() as connection:
            row = _visible(await connection.fetchrow(_LOCK, key_id), request.key_id)
            first = await claim_request(
                connection,
                row["tenant"] or OPERATOR_SCOPE,
                Method.ROTATE_API_KEY,
                request_id,
                request_digest(request),
                key_id,
            )
            if first is not None:
                return tenant_pb2.RotateApiKeyResponse(api_key=key_message(row))
            if row["revoke_time"] is not None:
                raise FailedPrecondition(f"key {request.key_id} is revoked", "RESOURCE_DELETED")
            earlier = _still_valid(row, overlap)
            row = _found(
                await connection.fetchrow(
                    _ROTATE,
                    key_id,
                    secret_hash,
                    overlap,
                    [hashed for hashed, _ in earlier],
                    [end for _, end in earlier],
                ),
                key_id,
            )
        return tenant_pb2.RotateApiKeyResponse(api_key=key_message(row), secret=secret)

    async def revoke(self, request: tenant_pb2.RevokeApiKeyRequest) -> tenant_pb2.RevokeApiKeyResponse:
        """Revoking again changes nothing."""
        key_id = ids.decode(Prefix.KEY, request.key_id, "key_id")
        async with self._transaction() as connection:
            _visible(await connection.fetchrow(_LOCK, key_id), request.key_id)
            row = await connection.fetchrow(_REVOKE, key_id)
        return tenant_pb2.RevokeApiKeyResponse(api_key=key_message(_found(row, key_id)))

    def _transaction(self) -> AbstractAsyncContextManager[Connection]:
        return self._callers.of(current_identity().tenant_id).transaction()


def _owner(request: tenant_pb2.CreateApiKeyRequest, role: Role) -> UUID | None:
    """The tenant that the key is for; None for an administrator's key."""
    identity = current_identity()
    if role is not Role.ADMIN:
        return UUID(identity.tenant_for(request.tenant_id).bytes)
    if identity.role is Role.TENANT:
        raise PermissionDenied("only administrators make administrators' keys", "SCOPE_MISSING")
    if request.tenant_id:
        raise InvalidField("tenant_id", "must be empty for an administrator's key")
    return None


def _scopes(request: tenant_pb2.CreateApiKeyRequest) -> frozenset[authorization_pb2.Scope.ValueType]:
    scopes = frozenset(request.scopes)
    if authorization_pb2.SCOPE_OPERATOR in scopes:
        if len(scopes) > 1:
            raise InvalidField("scopes", "must have OPERATOR alone: such a key may do everything")
        return scopes
    for at, scope in enumerate(request.scopes):
        validation.choice(f"scopes[{at}]", scope, TENANT_SCOPES, "READ, SEND, MANAGE, TENANT_ADMIN, OPERATOR")
    return scopes


def _account_ids(
    request: tenant_pb2.CreateApiKeyRequest, scopes: frozenset[authorization_pb2.Scope.ValueType]
) -> list[UUID] | None:
    if not request.account_ids:
        return None
    if scopes & {authorization_pb2.SCOPE_TENANT_ADMIN, authorization_pb2.SCOPE_OPERATOR}:
        raise InvalidField("account_ids", "must be empty with the scopes TENANT_ADMIN and OPERATOR")
    if len(request.account_ids) > MAX_ACCOUNTS:
        raise InvalidField("account_ids", f"must have at most {MAX_ACCOUNTS:,} entries")
    return sorted(
        {ids.decode(Prefix.ACCOUNT, one, f"account_ids[{at}]") for at, one in enumerate(request.account_ids)}
    )


async def _check_accounts(
    connection: Connection, tenant: UUID | None, account_ids: list[UUID] | None
) -> None:
    """Raise `NotFound` for an account that is not the tenant's, or is deleted."""
    if account_ids is not None:
        unknown = await connection.fetchval(_UNKNOWN_ACCOUNT, tenant, account_ids)
        if unknown is not None:
            raise NotFound("account", ids.encode(Prefix.ACCOUNT, unknown))


def _expire_time(request: tenant_pb2.CreateApiKeyRequest) -> datetime | None:
    if not request.HasField("expire_time"):
        return None
    return validation.timestamp("expire_time", request.expire_time)


def check_ahead(expire_time: datetime | None) -> None:
    """Raise `InvalidField` for a time that has passed. Of a new key only: when a request is repeated, the
    time of the key that it made may be over.
    """
    if expire_time is not None and expire_time <= datetime.now(UTC):
        raise InvalidField("expire_time", "must be in the future")


def _still_valid(row: asyncpg.Record, overlap: timedelta) -> list[tuple[bytes, datetime]]:
    """The secrets before the present one that are still good. Raises `FailedPrecondition` when the present
    one, which stays good for `overlap`, would be one too many.
    """
    now = datetime.now(UTC)
    earlier = [(hashed, end) for hashed, end in earlier_secrets(row) if end > now]
    if overlap and len(earlier) >= MAX_EARLIER_SECRETS:
        soonest = min(end for _, end in earlier)
        raise FailedPrecondition(
            f"{len(earlier)} earlier secrets of the key are still valid, which is the most it may have; the "
            f"first one ends at {soonest:%Y-%m-%dT%H:%M:%SZ}",
            "TOO_MANY_SECRETS",
            retry_after=(soonest - now).total_seconds(),
        )
    return earlier


def _visible(row: asyncpg.Record | None, name: str) -> asyncpg.Record:
    """The key, if the caller may see it: administrators see all, tenants their own. Raises `NotFound`."""
    identity = current_identity()
    if row is None or (identity.tenant_id is not None and identity.tenant_id != row["tenant"]):
        raise NotFound("api_key", name)
    return row


def _found(row: asyncpg.Record | None, key_id: UUID) -> asyncpg.Record:
    if row is None:
        raise NotFound("api_key", ids.encode(Prefix.KEY, key_id))
    return row


_SHARE_TENANT = "SELECT true FROM tenant WHERE id = $1 FOR KEY SHARE"
_GET = "SELECT * FROM api_key WHERE id = $1"
_LOCK = "SELECT * FROM api_key WHERE id = $1 FOR UPDATE"
_INSERT = """INSERT INTO api_key (id, tenant, name, hash, scopes, role, expire_time, account_ids)
  VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING *"""
_UNKNOWN_ACCOUNT = """SELECT wanted FROM unnest($2::uuid[]) AS wanted
  WHERE NOT EXISTS (SELECT FROM account WHERE id = wanted AND tenant = $1 AND delete_time IS NULL) LIMIT 1"""
_LIST = """SELECT * FROM api_key
  WHERE tenant IS NOT DISTINCT FROM $1 AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3"""
_ROTATE = """UPDATE api_key
  SET previous_hash = hash, previous_expire_time = now() + $3::interval, hash = $2,
      older_hashes = $4, older_expire_times = $5
  WHERE id = $1 RETURNING *"""
_REVOKE = "UPDATE api_key SET revoke_time = coalesce(revoke_time, now()) WHERE id = $1 RETURNING *"
