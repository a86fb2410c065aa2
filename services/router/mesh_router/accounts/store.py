"""The SQL of AccountService: accounts, and the events that tell of their changes.

A deleted account is kept, and found, until its `expire_time`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta

import asyncpg
from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy

from mesh_core import ids
from mesh_core.database.callers import CallerPool
from mesh_core.database.requests import RecordKind
from mesh_core.ids import Prefix
from mesh_core.telemetry.tracing import current_traceparent
from mesh_router.accounts.fields import Fields
from sessionmesh.v1 import account_pb2, event_pb2, tenant_pb2

Connection = PoolConnectionProxy
KEPT_AFTER_DELETION = timedelta(days=30)
DEFAULT_MAX_ACCOUNTS = 100_000
"""The quota of a tenant whose settings have none."""


async def lock_quota(connection: Connection, tenant: UUID) -> int | None:
    """The most accounts that the tenant may have, None when there is no such tenant, or it is being deleted.

    Locks the tenant's row, so that no two calls count its accounts at once.
    """
    settings = await connection.fetchval(_LOCK_TENANT, tenant)
    return None if settings is None else json.loads(settings).get("max_accounts", DEFAULT_MAX_ACCOUNTS)


async def has_room(connection: Connection, tenant: UUID, quota: int) -> bool:
    """Whether the tenant has fewer accounts than `quota`."""
    return bool(await connection.fetchval(_HAS_ROOM, tenant, quota))


async def insert(
    connection: Connection, account: UUID, tenant: UUID, shard: int, fields: Fields
) -> asyncpg.Record | None:
    """Inserts and returns the row. Raises asyncpg's `UniqueViolationError` for an external_id in use."""
    return await connection.fetchrow(
        _INSERT,
        account,
        tenant,
        fields.external_id,
        fields.display_name,
        fields.driver,
        fields.phone,
        fields.labels,
        fields.settings,
        fields.desired_state,
        shard,
    )


async def get(database: CallerPool | Connection, account: UUID) -> asyncpg.Record | None:
    return await database.fetchrow(_GET, account)


async def find(database: CallerPool, tenant: UUID, external_id: str) -> asyncpg.Record | None:
    """The tenant's account of that external_id: the one that is not deleted, else the one deleted last."""
    return await database.fetchrow(_FIND, tenant, external_id)


async def lock(connection: Connection, account: UUID) -> asyncpg.Record | None:
    return await connection.fetchrow(_GET + " FOR UPDATE", account)


@dataclass(frozen=True, slots=True)
class AccountFilter:
    """Which accounts to list; None: any."""

    tenant: UUID | None
    accounts: list[UUID] | None
    labels: dict[str, str]
    driver: str | None
    show_deleted: bool


async def page(
    pool: CallerPool, wanted: AccountFilter, after: UUID | None, limit: int
) -> list[asyncpg.Record]:
    """Accounts in creation order, behind `after`. Raises `DeadlineExceeded` SEARCH_TOO_LONG."""
    return await pool.search(
        _PAGE,
        wanted.tenant,
        after,
        wanted.accounts,
        json.dumps(wanted.labels),
        wanted.driver,
        wanted.show_deleted,
        limit,
    )


async def update(
    connection: Connection, row: asyncpg.Record, fields: Fields, paths: frozenset[str]
) -> asyncpg.Record:
    """Writes those of `fields` that `paths` names; returns the changed row."""

    def pick(path: str, given: object, column: str) -> object:
        return given if path in paths else row[column]

    changed = await connection.fetchrow(
        _UPDATE,
        row["id"],
        pick("display_name", fields.display_name, "display_name"),
        pick("phone", fields.phone, "phone"),
        pick("labels", fields.labels, "labels"),
        pick("desired_state", fields.desired_state, "desired_state"),
        pick("send_limits", fields.settings, "settings"),
    )
    assert changed is not None  # noqa: S101 - the row is locked
    if "desired_state" in paths:  # somebody decided, and a restore's pause is over
        await connection.execute(_RELEASE, row["id"], RecordKind.RESTORED)
    return changed


async def delete(connection: Connection, account: UUID) -> asyncpg.Record:
    deleted = await connection.fetchrow(_DELETE, account, KEPT_AFTER_DELETION)
    assert deleted is not None  # noqa: S101 - the row is locked
    return deleted


async def undelete(connection: Connection, account: UUID) -> asyncpg.Record:
    """Raises asyncpg's `UniqueViolationError` when another account has its external_id by now."""
    restored = await connection.fetchrow(_UNDELETE, account)
    assert restored is not None  # noqa: S101 - the row is locked
    return restored


async def insert_event(
    connection: Connection, kind: str, tenant: UUID, account: UUID, message: account_pb2.Account
) -> None:
    """Adds an event such as `account.created`, in the transaction of the change that it tells of.

    `message` is the account after the change.
    """
    event_id = ids.new_uuid()
    event = event_pb2.Event(
        id=ids.encode(Prefix.EVENT, event_id),
        tenant_id=message.tenant_id,
        account_id=message.id,
        type=kind,
        occur_time=message.update_time,
        traceparent=current_traceparent(),
        labels=message.labels,
        account=event_pb2.AccountEvent(account=message),
    )
    await connection.execute(_INSERT_EVENT, event_id, tenant, account, kind, event.SerializeToString())


_GET = """SELECT *, paired_phone(id) FROM account
  WHERE id = $1 AND (expire_time IS NULL OR expire_time > now())"""
_FIND = """SELECT *, paired_phone(id) FROM account
  WHERE tenant = $1 AND external_id = $2 AND (expire_time IS NULL OR expire_time > now())
  ORDER BY delete_time DESC NULLS FIRST LIMIT 1"""
_LOCK_TENANT = f"""SELECT settings FROM tenant
  WHERE id = $1 AND state <> {tenant_pb2.TENANT_STATE_DELETING} FOR NO KEY UPDATE"""  # noqa: S608 - constants
_HAS_ROOM = """SELECT count(*) < $2 FROM (
  SELECT FROM account WHERE tenant = $1 AND delete_time IS NULL LIMIT $2) AS counted"""
_INSERT = """INSERT INTO account
  (id, tenant, external_id, display_name, driver, phone, labels, settings, desired_state, shard)
  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING *, NULL AS paired_phone"""
_PAGE = """SELECT *, paired_phone(id) FROM account
  WHERE ($1::uuid IS NULL OR tenant = $1) AND ($2::uuid IS NULL OR id > $2)
    AND ($3::uuid[] IS NULL OR id = ANY ($3)) AND labels @> $4::jsonb AND ($5::text IS NULL OR driver = $5)
    AND ($6 OR delete_time IS NULL) AND (expire_time IS NULL OR expire_time > now())
  ORDER BY id LIMIT $7"""
_UPDATE = """UPDATE account
  SET display_name = $2, phone = $3, labels = $4, desired_state = $5, settings = $6,
      version = version + 1, update_time = now()
  WHERE id = $1 RETURNING *, paired_phone(id)"""
_RELEASE = "DELETE FROM account_record WHERE account = $1 AND kind = $2"
_DELETE = """UPDATE account
  SET delete_time = now(), expire_time = now() + $2::interval, version = version + 1, update_time = now()
  WHERE id = $1 RETURNING *, paired_phone(id)"""
_UNDELETE = """UPDATE account
  SET delete_time = NULL, expire_time = NULL, version = version + 1, update_time = now()
  WHERE id = $1 RETURNING *, paired_phone(id)"""
# An event's epoch is its writer's. A router owns no shard, so it has none.
_INSERT_EVENT = """INSERT INTO event (id, seq, tenant, account, epoch, type, body)
  VALUES ($1, 1, $2, $3, 0, $4, $5)"""
