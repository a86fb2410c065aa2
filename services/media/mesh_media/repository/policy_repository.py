"""The tenants' rules of compression and retention, and the mesh's, which hold where a tenant has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy

from mesh_core import ids, validation
from mesh_core.database import Database
from mesh_core.errors import NotFound
from mesh_core.ids import Prefix

MESH = UUID(bytes(16))
"""Whose rules are the mesh's."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How long files of a category (`MediaCategory`) are kept, None for ever, and how many bytes of them."""

    category: int
    keep_for: timedelta | None
    max_bytes: int | None


@dataclass(frozen=True, slots=True)
class Policy:
    """A tenant's rules; `version` 0 and `update_time` None: never changed. `compression` is a number."""

    compression: int = 0
    keep_original: bool = False
    rules: Sequence[Rule] = ()
    version: int = 0
    update_time: datetime | None = None


class PolicyRepository:
    """Reads and changes policies."""

    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def get(self, tenant: UUID) -> Policy:
        """The tenant's own; raises `NotFound`."""
        async with self._pool.acquire() as connection:
            return await _policy(connection, tenant)

    async def mesh_rules(self) -> Sequence[Rule]:
        """Those that hold for categories that a policy has no rule for."""
        async with self._pool.acquire() as connection:
            return await _rules(connection, MESH)

    async def update(self, tenant: UUID, given: Policy, paths: frozenset[str], etag: str) -> Policy:
        """Changes what `paths` name. Files that are stored follow changed rules soon, as the sweeper goes
        through them. Raises `NotFound`, and `Aborted` for an etag that is not the present one.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_MAKE, tenant)
            policy = await _policy(connection, tenant)
            validation.check_etag(etag, policy.version)
            if "retention_rules" in paths:
                await connection.execute("DELETE FROM media_rule WHERE tenant = $1", tenant)
                await connection.executemany(
                    "INSERT INTO media_rule VALUES ($1, $2, $3, $4)",
                    [(tenant, rule.category, rule.keep_for, rule.max_bytes) for rule in given.rules],
                )
            await connection.execute(
                _UPDATE,
                tenant,
                given.compression if "compression" in paths else policy.compression,
                given.keep_original if "keep_original" in paths else policy.keep_original,
                "retention_rules" in paths,
            )
            return await _policy(connection, tenant)


async def _policy(connection: PoolConnectionProxy, tenant: UUID) -> Policy:
    row = await connection.fetchrow(_GET, tenant)
    if row is None:
        raise NotFound("tenant", ids.encode(Prefix.TENANT, tenant))
    values: Mapping[str, object] = dict(row)
    if not row["version"]:
        return Policy()
    return Policy(**values, rules=await _rules(connection, tenant))  # type: ignore[arg-type]  # of the columns


async def _rules(connection: PoolConnectionProxy, tenant: UUID) -> Sequence[Rule]:
    rows = await connection.fetch(_RULES, tenant)
    return [Rule(row["category"], row["keep_for"], row["max_bytes"]) for row in rows]


_GET = """SELECT coalesce(p.compression, 0) AS compression, coalesce(p.keep_original, false) AS keep_original,
    coalesce(p.version, 0) AS version, p.update_time
  FROM tenant t LEFT JOIN media_policy p ON p.tenant = t.id WHERE t.id = $1"""
_RULES = "SELECT category, keep_for, max_bytes FROM media_rule WHERE tenant = $1 ORDER BY category"
# Who deletes the tenant waits for this, and finds the row.
_MAKE = """WITH found AS (SELECT id FROM tenant WHERE id = $1 FOR KEY SHARE)
  INSERT INTO media_policy (tenant, version) SELECT id, 0 FROM found
  ON CONFLICT (tenant) DO UPDATE SET tenant = excluded.tenant"""
_UPDATE = """UPDATE media_policy SET compression = $2, keep_original = $3, version = version + 1,
    update_time = now(),
    settled_until = CASE WHEN $4 THEN '00000000-0000-0000-0000-000000000000' ELSE settled_until END
  WHERE tenant = $1"""
