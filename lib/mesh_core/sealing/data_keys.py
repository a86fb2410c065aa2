"""Where tenants' data keys are stored, encrypted with the cluster's master key (wrapped)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import Database


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """One version of a tenant's data key, encrypted with a master key."""

    version: int
    wrapped: bytes


class KeyStore(Protocol):
    """Where wrapped data keys are kept."""

    async def fetch(self, tenant: UUID) -> Sequence[WrappedKey]:
        """All versions of a tenant's key."""

    async def add(self, tenant: UUID, key: WrappedKey) -> None:
        """Stores a new version; does nothing when that version exists."""

    async def replace(self, tenant: UUID, key: WrappedKey) -> None:
        """Replaces a stored version by the same data key under another master key."""


class PostgresDataKeys:
    """The store in the table `tenant_key`."""

    def __init__(self, database: Database) -> None:
        self._pool = database.pool

    async def tenants(self) -> Sequence[UUID]:
        """The tenants that have keys."""
        return [row["tenant"] for row in await self._pool.fetch("SELECT DISTINCT tenant FROM tenant_key")]

    async def fetch(self, tenant: UUID) -> Sequence[WrappedKey]:
        """See `KeyStore`."""
        rows = await self._pool.fetch("SELECT version, wrapped FROM tenant_key WHERE tenant = $1", tenant)
        return [WrappedKey(row["version"], row["wrapped"]) for row in rows]

    async def add(self, tenant: UUID, key: WrappedKey) -> None:
        """See `KeyStore`."""
        await self._pool.execute(
            "INSERT INTO tenant_key (tenant, version, wrapped) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            tenant,
            key.version,
            key.wrapped,
        )

    async def replace(self, tenant: UUID, key: WrappedKey) -> None:
        """See `KeyStore`."""
        await self._pool.execute(
            "UPDATE tenant_key SET wrapped = $3 WHERE tenant = $1 AND version = $2",
            tenant,
            key.version,
            key.wrapped,
        )
