"""What keys that are limited to accounts see of media, and may delete: nothing of other accounts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy

from mesh_core.database.pool import AnyConnection
from mesh_core.errors import PermissionDenied
from mesh_media.repository.rows import MediaRow


async def seen_by(
    connection: AnyConnection, rows: Sequence[MediaRow], accounts: Sequence[UUID]
) -> list[MediaRow]:
    """Those of the rows that were uploaded for one of the accounts, or that one's messages refer to; as if
    there were no other accounts.
    """
    found = await connection.fetch(_CATEGORIES, [row.id for row in rows], accounts)
    categories = {row["media"]: row["categories"] for row in found}
    return [
        replace(
            row,
            account=row.account if row.account in accounts else None,
            categories=categories.get(row.id, [row.own_category]),
        )
        for row in rows
        if row.account in accounts or row.id in categories
    ]


async def check_only_of(connection: PoolConnectionProxy, media: UUID, accounts: Sequence[UUID]) -> None:
    """Locks the row. Raises `PermissionDenied` SCOPE_MISSING unless it was uploaded for one of the accounts,
    and only their messages refer to it.
    """
    await connection.execute("SELECT FROM media WHERE id = $1 FOR UPDATE", media)
    if await connection.fetchval(_NOT_ONLY_OF, media, accounts):
        raise PermissionDenied(
            "the key is limited to accounts, and the file is not only theirs", "SCOPE_MISSING"
        )


_CATEGORIES = """SELECT media, array_agg(DISTINCT category) AS categories FROM media_reference
  WHERE media = ANY ($1) AND account = ANY ($2) GROUP BY media"""
_NOT_ONLY_OF = """SELECT EXISTS (SELECT FROM media WHERE id = $1 AND (account = ANY ($2)) IS NOT TRUE)
  OR EXISTS (SELECT FROM media_reference WHERE media = $1 AND account <> ALL ($2))"""
