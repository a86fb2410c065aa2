"""API keys: how they are made, what is stored of them, and how they are looked up.

A key is `smk_`, its id in Crockford base32 (26 characters), `_`, and 43 characters of base64url: 256 random
bits, so a plain SHA-256 of the whole text is stored.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING

from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_core.rpc.auth.identity import ADMIN_SCOPES, TENANT_SCOPES, Role
from sessionmesh.v1.authorization_pb2 import Scope

if TYPE_CHECKING:
    from mesh_core.database import Database


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as stored. `tenant_id` is None for an administrator's, `account_ids` for one without a limit."""

    role: Role
    tenant_id: UUID | None
    hash: bytes
    scopes: frozenset[Scope.ValueType]
    expire_time: datetime | None = None
    revoked: bool = False
    tenant_suspended: bool = False
    previous_hash: bytes | None = None
    previous_expire_time: datetime | None = None
    account_ids: frozenset[str] | None = None

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
"""Finds a key by its id; raises `mesh_core.database.UNAVAILABLE` when it does not answer."""


def new_api_key() -> tuple[UUID, str, bytes]:
    """A fresh key: its id, the text to show once, and the hash to store."""
    key_id = ids.new_uuid()
    return key_id, *new_secret(key_id)


def new_secret(key_id: UUID) -> tuple[str, bytes]:
    """A fresh secret for an existing key: the text to show once, and the hash to store."""
    text = f"smk_{ids.encode(Prefix.KEY, key_id)[4:]}_{secrets.token_urlsafe(32)}"
    return text, secret_hash(text)


def scope_names(scopes: frozenset[Scope.ValueType]) -> list[str]:
    """The form that `api_key.scopes` stores: READ, SEND, MANAGE, TENANT_ADMIN."""
    return sorted(Scope.Name(scope).removeprefix("SCOPE_") for scope in scopes)


def scopes_of(names: list[str]) -> frozenset[Scope.ValueType]:
    """Scopes by their stored names; one that this version does not know grants nothing."""
    known = {Scope.Name(scope).removeprefix("SCOPE_"): scope for scope in TENANT_SCOPES}
    return frozenset(known[name] for name in names if name in known)


def account_names(stored: list[UUID] | None) -> frozenset[str] | None:
    """The accounts of the column `api_key.account_ids`, as the API names them."""
    return None if stored is None else frozenset(ids.encode(Prefix.ACCOUNT, account) for account in stored)


def secret_hash(text: str) -> bytes:
    """What is stored of a key's text."""
    return sha256(text.encode()).digest()


def api_key_lookup(database: Database) -> Lookup:
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
            ADMIN_SCOPES if role is Role.ADMIN else scopes_of(row["scopes"]),
            row["expire_time"],
            row["revoked"],
            row["suspended"],
            row["previous_hash"],
            row["previous_expire_time"],
            account_names(row["account_ids"]),
        )

    return lookup


# A look-up is a use; it is noted once a minute.
_SELECT = """
WITH used AS (
  UPDATE api_key SET last_use_time = now()
  WHERE id = $1 AND revoke_time IS NULL AND coalesce(last_use_time < now() - interval '1 minute', true)
)
SELECT k.role, k.tenant, k.hash, k.scopes, k.expire_time, k.revoke_time IS NOT NULL AS revoked,
       coalesce(t.state <> 1, false) AS suspended, k.previous_hash, k.previous_expire_time,
       k.account_ids
FROM api_key k LEFT JOIN tenant t ON t.id = k.tenant
WHERE k.id = $1
"""
