"""Whether a process has the master keys that a database's data keys are wrapped with.

Where the secrets of a deployment were made anew beside its old database, a part would else start, be ready,
take accounts over from those that can open them, and open none.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from mesh_core.database import Database
from mesh_core.database.pool import AnyConnection
from mesh_core.errors import Misconfigured
from mesh_core.sealing.sealer import master_key_id
from mesh_core.settings import SecretsSettings

logger = structlog.get_logger(__name__)


class WrongMasterKey(Misconfigured):
    """No master key that is set opens anything in the database."""


@dataclass(frozen=True, slots=True)
class Openness:
    """Of how many tenants there are data keys, and how many have one that no master key that is set opens."""

    tenants: int
    closed: int


async def openness(connection: AnyConnection, settings: SecretsSettings) -> Openness:
    """What the master keys open; only their ids are compared."""
    texts = (settings.master_key, *settings.previous_master_keys)
    [row] = await connection.fetch(_OPENNESS, [master_key_id(text) for text in texts])
    return Openness(row["tenants"], row["closed"])


async def check_master_keys(database: Database, settings: SecretsSettings) -> None:
    """Raises `WrongMasterKey` where nothing opens. Where some does, the log tells how many tenants must do
    without: that is no reason to keep the others waiting.
    """
    async with database.pool.acquire() as connection:
        found = await openness(connection, settings)
    if not found.closed:
        return
    if found.closed == found.tenants:
        raise WrongMasterKey(
            "MESH_SECRETS_MASTER_KEY opens nothing in this database, which was sealed with another one: set "
            "that one, or name it in MESH_SECRETS_PREVIOUS_MASTER_KEYS"
        )
    logger.error(
        "some tenants' keys need a master key that is not set", tenants=found.closed, of=found.tenants
    )


_OPENNESS = """SELECT count(DISTINCT tenant) AS tenants,
  count(DISTINCT tenant) FILTER (WHERE encode(substr(wrapped, 2, 8), 'hex') <> ALL ($1::text[])) AS closed
FROM tenant_key"""
"""After the format's byte a wrapped key has its master key's id."""
