"""Media rows without a media service, for tests of what refers to them and how long they are kept."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.pool import AnyConnection
from mesh_core.ids import new_uuid
from sessionmesh.v1 import media_pb2

UPLOAD, NETWORK = media_pb2.MEDIA_ORIGIN_UPLOAD, media_pb2.MEDIA_ORIGIN_NETWORK
DEFAULT, RECEIVED = media_pb2.MEDIA_CATEGORY_DEFAULT, media_pb2.MEDIA_CATEGORY_RECEIVED
SENT, REVOKED = media_pb2.MEDIA_CATEGORY_SENT, media_pb2.MEDIA_CATEGORY_REVOKED
DAY = timedelta(days=1)


async def add_media(
    database: asyncpg.Pool | AnyConnection,
    tenant: UUID,
    *,
    origin: int = UPLOAD,
    size: int = 10,
    age: timedelta = timedelta(),
    keep_for: timedelta | None = None,
    account: UUID | None = None,
) -> UUID:
    """A READY media row that came `age` ago, with an object of its own; makes the tenant."""
    media, sha256 = new_uuid(), new_uuid().bytes * 2
    await database.execute("INSERT INTO tenant (id) VALUES ($1) ON CONFLICT DO NOTHING", tenant)
    await database.execute(
        "INSERT INTO media_object (tenant, sha256, key, size, media) VALUES ($1, $2, $3, $4, 1)",
        tenant,
        sha256,
        f"{tenant.hex}/{media.hex}",
        size,
    )
    await database.execute(
        "INSERT INTO media (id, tenant, account, mime_type, sha256, original_size, original_sha256,"
        " unprocessed, origin, create_time, keep_until)"
        " VALUES ($1, $2, $3, 'image/jpeg', $4, $5, $4, 0, $6, now() - $7::interval,"
        " now() - $7 + $8::interval)",
        media,
        tenant,
        account,
        sha256,
        size,
        origin,
        age,
        keep_for,
    )
    return media


async def refer(
    database: asyncpg.Pool | AnyConnection,
    media: UUID,
    category: int,
    *,
    age: timedelta = timedelta(),
    account: UUID | None = None,
    message: UUID | None = None,
) -> UUID:
    """A reference that was made `age` ago, as session-nodes make them; returns its message."""
    message = message or new_uuid()
    await database.execute(
        "INSERT INTO media_reference (media, message, tenant, account, category, create_time)"
        " SELECT id, $2, tenant, $3, $4, now() - $5::interval FROM media WHERE id = $1",
        media,
        message,
        account or new_uuid(),
        category,
        age,
    )
    await database.execute("SELECT media_settle(ARRAY[$1::uuid])", media)
    return message


async def set_rule(
    database: asyncpg.Pool | AnyConnection,
    tenant: UUID,
    category: int,
    keep_for: timedelta | None = None,
    max_bytes: int | None = None,
) -> None:
    """The tenant's rule for a category, which media that are there do not follow yet."""
    await database.execute(
        "INSERT INTO media_rule VALUES ($1, $2, $3, $4) ON CONFLICT (tenant, category)"
        " DO UPDATE SET keep_for = $3, max_bytes = $4",
        tenant,
        category,
        keep_for,
        max_bytes,
    )


async def days_left(database: Any, media: UUID) -> float | None:
    """Until its end; None: it has none."""
    left = await database.fetchval("SELECT expire_time - now() FROM media WHERE id = $1", media)
    return None if left is None else left / DAY


async def exists(database: Any, media: UUID) -> bool:
    return await database.fetchval("SELECT EXISTS (SELECT FROM media WHERE id = $1)", media) is True
