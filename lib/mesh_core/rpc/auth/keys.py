"""API keys: how they are made, what is stored of them, and how they are looked up.

A key is `smk_`, its id in Crockford base32 (26 characters), `_`, 37 characters of base64url, which are 222
random bits, so a plain SHA-256 of the whole text is stored, and the checksum of all that: CRC-32 in 6
characters of base62. What was not made as a key, or was copied badly, is known without a look-up.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from string import ascii_letters, digits
from typing import TYPE_CHECKING
from zlib import crc32

from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_core.rpc.auth.identity import ADMIN_SCOPES, TENANT_SCOPES, Role
from sessionmesh.v1.authorization_pb2 import Scope

if TYPE_CHECKING:
    import asyncpg

    from mesh_core.database import Database


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as stored. `tenant_id` is None for an administrator's, `account_ids` for one without a limit.

    `earlier` are the hashes of secrets before the present one, each with the end of its overlap.
    """

    role: Role
    tenant_id: UUID | None
    hash: bytes
    scopes: frozenset[Scope.ValueType]
    expire_time: datetime | None = None
    revoked: bool = False
    tenant_suspended: bool = False
    earlier: tuple[tuple[bytes, datetime], ...] = ()
    account_ids: frozenset[str] | None = None
    calls_per_second: int | None = None

    def matches(self, digest: bytes) -> bool:
        """Whether `digest` is of the key's secret, or of one before it while its overlap lasts."""
        if compare_digest(digest, self.hash):
            return True
        return any(
            compare_digest(digest, earlier) and end > datetime.now(UTC) for earlier, end in self.earlier
        )


Lookup = Callable[[UUID], Awaitable[KeyRow | None]]
"""Finds a key by its id; raises `mesh_core.database.UNAVAILABLE` when it does not answer."""


def new_api_key() -> tuple[UUID, str, bytes]:
    """A fresh key: its id, the text to show once, and the hash to store."""
    key_id = ids.new_uuid()
    return key_id, *new_secret(key_id)


def new_secret(key_id: UUID) -> tuple[str, bytes]:
    """A fresh secret for an existing key: the text to show once, and the hash to store."""
    random = secrets.token_urlsafe(32)[: KEY_LENGTH - 31 - _CHECKSUM_LENGTH]
    text = f"smk_{ids.encode(Prefix.KEY, key_id)[4:]}_{random}"
    text += _checksum(text)
    return text, secret_hash(text)


def looks_like_key(text: str) -> bool:
    """Whether `text` has the form of a key and its checksum is right."""
    return (
        len(text) == KEY_LENGTH
        and text.startswith("smk_")
        and text[30] == "_"
        and text.isascii()
        and text.endswith(_checksum(text[:-_CHECKSUM_LENGTH]))
    )


def earlier_secrets(row: asyncpg.Record) -> tuple[tuple[bytes, datetime], ...]:
    """The hashes of a row's earlier secrets, with the ends of their overlaps; the last rotation's is last.

    The one before the present secret has columns of its own, which the first release reads and writes.
    """
    older = zip(row["older_hashes"], row["older_expire_times"], strict=True)
    if row["previous_hash"] is None or row["previous_expire_time"] is None:
        return tuple(older)
    return *older, (row["previous_hash"], row["previous_expire_time"])


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
            earlier_secrets(row),
            account_names(row["account_ids"]),
            row["calls_per_second"],
        )

    return lookup


def _checksum(text: str) -> str:
    number, letters = crc32(text.encode()), []
    for _ in range(_CHECKSUM_LENGTH):
        number, letter = divmod(number, len(_BASE62))
        letters.append(_BASE62[letter])
    return "".join(letters)


KEY_LENGTH = 74
_CHECKSUM_LENGTH = 6
_BASE62 = digits + ascii_letters
# A look-up is a use; it is noted once a minute.
_SELECT = """
WITH used AS (
  UPDATE api_key SET last_use_time = now()
  WHERE id = $1 AND revoke_time IS NULL AND coalesce(last_use_time < now() - interval '1 minute', true)
)
SELECT k.role, k.tenant, k.hash, k.scopes, k.expire_time, k.revoke_time IS NOT NULL AS revoked,
       coalesce(t.state <> 1, false) AS suspended, k.previous_hash, k.previous_expire_time,
       k.older_hashes, k.older_expire_times, k.account_ids,
       (t.settings->>'calls_per_second')::int AS calls_per_second
FROM api_key k LEFT JOIN tenant t ON t.id = k.tenant
WHERE k.id = $1
"""
