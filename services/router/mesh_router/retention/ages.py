"""Rows that go by their age alone, and rows of accounts that are gone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from mesh_core.database.partitions import stored_days
from mesh_core.database.pool import AnyConnection
from mesh_core.database.requests import RecordKind
from mesh_core.metrics import counters
from mesh_router.retention.policy import (
    AUDIT,
    AUDIT_EVENTS,
    CALLS,
    DEDUPLICATION,
    DISCONNECTS,
    ENDED_KEYS,
    PEOPLE,
    USAGE,
)
from mesh_router.retention.purge import PAGES_OF, STEP

DELETED = counters(
    "mesh_retention_deleted_rows_total",
    "Rows that were deleted for their age.",
    answers="Is old data deleted?",
    table=(
        *("account_record", "api_key", "audit_event", "credential", "disconnect", "driver_row_count"),
        *("media_fetch", "media_reference", "message_receipt", "message_receipt_part", "network_message"),
        *("node_journal", "outbox", "person_identity", "session", "tenant_usage"),
    ),
)


async def delete_aged(connection: AnyConnection, table: str, now: datetime) -> int:
    """Deletes what is too old in one of the tables of `AGED`, in small steps; returns how many rows."""
    statement = AGED[table]
    arguments = (now,) if "$1" in statement else ()
    total = 0
    while deleted := int((await connection.execute(statement, *arguments)).split()[-1]):
        DELETED.labels(table).inc(deleted)
        total += deleted
    return total


async def delete_receipts(connection: AnyConnection) -> int:
    """Deletes the receipts of messages whose day was dropped; returns how many rows."""
    days = await stored_days(connection, "message")
    total = 0
    for table, statement in _RECEIPTS.items():
        while days and (deleted := int((await connection.execute(statement, days[0])).split()[-1])):
            DELETED.labels(table).inc(deleted)
            total += deleted
    return total


async def delete_votes(connection: AnyConnection) -> int:
    """Deletes votes that are older than every message, and so than their polls; returns how many."""
    days = await stored_days(connection, "message")
    total = 0
    while days and (
        deleted := int((await connection.execute(_VOTES, RecordKind.POLL_VOTE, days[0])).split()[-1])
    ):
        DELETED.labels("account_record").inc(deleted)
        total += deleted
    return total


async def delete_audit_events(connection: AnyConnection, most: int = AUDIT_EVENTS) -> int:
    """Deletes the oldest audit events of those who have more, tenants and the mesh; returns how many."""
    total = 0
    for row in await connection.fetch(_AUDITED):
        while deleted := int((await connection.execute(_AUDIT, row["tenant"], most)).split()[-1]):
            total += deleted
    DELETED.labels("audit_event").inc(total)
    return total


async def delete_references(connection: AnyConnection) -> int:
    """Deletes what messages whose day was dropped referred to, where a later message of the same account
    refers to the same file for the same reason: how long the file is kept does not change. Returns how many.
    """
    days = await stored_days(connection, "message")
    pages = await connection.fetchval(PAGES_OF, "media_reference")
    total = 0
    for page in range(0, pages if days else 0, STEP):
        done = await connection.execute(_REFERENCES, f"({page},0)", f"({page + STEP},0)", days[0])
        total += int(done.split()[-1])
    DELETED.labels("media_reference").inc(total)
    return total


def _by_ctid(table: str, which: str) -> str:
    return f"""DELETE FROM {table} WHERE ctid = ANY (ARRAY(
      SELECT ctid FROM {table} AS old WHERE {which} LIMIT 5000))"""  # noqa: S608 - our own names


def _of_no_account(table: str) -> str:
    """A node may have written once more while the account was purged; `purge_strays` has the large tables."""
    return _by_ctid(table, "NOT EXISTS (SELECT FROM account a WHERE a.id = old.account)")


AGED: Mapping[str, str] = {
    "account_record": _by_ctid(
        "account_record",
        f"""kind = {RecordKind.CALL} AND time < $1::timestamptz - interval '{CALLS.days} days'
          OR kind = {RecordKind.CONTACT_PICTURE} AND time < $1::timestamptz - interval '1 day'
            AND NOT EXISTS (SELECT FROM media m WHERE m.id = encode(old.value, 'hex')::uuid)""",
    ),
    "network_message": _by_ctid(
        "network_message", f"created_at < $1::timestamptz - interval '{DEDUPLICATION.days} days'"
    ),
    "disconnect": _by_ctid(
        "disconnect", f"disconnect_time < $1::timestamptz - interval '{DISCONNECTS.days} days'"
    ),
    "person_identity": _by_ctid(
        "person_identity",  # members of groups are told once
        f"""update_time < $1::timestamptz - interval '{PEOPLE.days} days' AND NOT EXISTS (
          SELECT FROM account_record r WHERE r.account = old.account AND r.kind = {RecordKind.GROUP_MEMBER}
            AND r.member IN (old.person, 'phone:' || old.phone, 'hidden:' || old.hidden_id))""",
    ),
    "api_key": _by_ctid(
        "api_key",
        f"least(revoke_time, expire_time) < $1::timestamptz - interval '{ENDED_KEYS.days} days'",
    ),
    "audit_event": _by_ctid("audit_event", f"id < uuid_at($1::timestamptz - interval '{AUDIT.days} days')"),
    "tenant_usage": _by_ctid("tenant_usage", f"day < $1::timestamptz - interval '{USAGE.days} days'"),
    # A node looks for the answers of its own batches only, and one that is expired never again.
    "node_journal": _by_ctid(
        "node_journal",
        """NOT EXISTS (SELECT FROM node_incarnation n WHERE n.id = old.incarnation AND NOT n.expired
             AND n.beat_at > $1::timestamptz - interval '1 day')""",
    ),
    **{
        table: _of_no_account(table)
        for table in ("session", "credential", "driver_row_count", "outbox", "media_fetch")
    },
}
"""By table the statement that deletes 5,000 of its old rows; $1, where there is one, is the present time."""
_REFERENCES = """DELETE FROM media_reference r WHERE ctid >= $1::text::tid AND ctid < $2::text::tid
  AND message < uuid_at($3::date::timestamp AT TIME ZONE 'UTC')
  AND EXISTS (SELECT FROM media_reference n WHERE n.account = r.account AND n.category = r.category
    AND n.media = r.media AND n.message > r.message AND n.create_time >= r.create_time)"""
_VOTES = """DELETE FROM account_record WHERE ctid = ANY (ARRAY(SELECT ctid FROM account_record
  WHERE kind = $1 AND time < $2::date::timestamp AT TIME ZONE 'UTC' LIMIT 5000))"""
_AUDITED = """WITH RECURSIVE known AS (
    (SELECT tenant FROM audit_event WHERE tenant IS NOT NULL ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT e.tenant FROM audit_event e WHERE e.tenant > k.tenant ORDER BY e.tenant LIMIT 1)
      FROM known k WHERE k.tenant IS NOT NULL)
  SELECT tenant FROM known WHERE tenant IS NOT NULL UNION ALL SELECT NULL"""
_AUDIT = """DELETE FROM audit_event WHERE ctid = ANY (ARRAY(SELECT ctid FROM audit_event
  WHERE tenant IS NOT DISTINCT FROM $1 AND id <= (SELECT id FROM audit_event
    WHERE tenant IS NOT DISTINCT FROM $1 ORDER BY id DESC OFFSET $2 LIMIT 1) LIMIT 5000))"""
_RECEIPTS = {
    table: f"""DELETE FROM {table} WHERE (message, {one}) IN (
  SELECT message, {one} FROM {table}
    WHERE message < uuid_at($1::date::timestamp AT TIME ZONE 'UTC') ORDER BY message, {one} LIMIT 5000)"""  # noqa: S608 - our own names
    for table, one in (("message_receipt", "member"), ("message_receipt_part", "part"))
}
