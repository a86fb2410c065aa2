"""Everything of an account, deleted for good and in small steps, its row last.

Its events have no index by account. They go with their days, or by `delete_events_of_tenant`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.partitions import stored_days
from mesh_core.database.pool import AnyConnection
from mesh_core.metrics import counter

logger = structlog.get_logger(__name__)

PURGED = counter(
    "mesh_retention_purged_accounts_total",
    "Deleted accounts that were purged.",
    answers="Are deleted accounts gone?",
)


async def purge_expired_accounts(connection: AnyConnection, now: datetime) -> int:
    """Purges the accounts whose time to be undeleted is over; returns how many. One that cannot be purged
    stops none of the others, and is raised when they are done.
    """
    purged, failure = 0, None
    after = UUID(bytes(16))
    while expired := await connection.fetch(_EXPIRED, now, after):
        for row in expired:
            after = row["id"]
            try:
                await purge_account(connection, after)
                purged += 1
            except Exception as error:
                failure = error
                logger.warning("an account was not purged", account=str(after), error=repr(error))
    if failure is not None:
        raise failure
    return purged


async def purge_account(connection: AnyConnection, account: UUID) -> None:
    """Deletes what there is of an account, whatever its state. Doing it again finishes what was begun."""
    await _delete_rows(connection, account)
    PURGED.inc()


async def purge_strays(connection: AnyConnection) -> int:
    """Deletes what a node wrote once more of accounts while they were purged; returns of how many accounts.

    Nobody finds such rows by their tenant: neither an export nor an erasure has them.
    """
    strays: set[UUID] = set()
    for table in _LARGE:
        strays.update(row["account"] for row in await connection.fetch(_STRAYS.format(table)))
    for account in strays:
        await _delete_rows(connection, account)
    return len(strays)


async def _delete_rows(connection: AnyConnection, account: UUID) -> None:
    for statement in ACCOUNT_TABLES.values():
        while await connection.fetchval(statement, account):
            pass


async def delete_events_of_tenant(connection: AnyConnection, tenant: UUID) -> int:
    """Deletes all of a tenant's events; returns how many. Reads every stored event once, page by page."""
    deleted = 0
    for day in await stored_days(connection, "event"):
        deleted += await _delete_of_day(connection, day, tenant)
    return deleted


async def _delete_of_day(connection: AnyConnection, day: date, tenant: UUID) -> int:
    name = f"event_{day:%Y%m%d}"
    pages = await connection.fetchval(PAGES_OF, name)
    deleted = 0
    for page in range(0, pages or 0, STEP):
        done = await connection.execute(_EVENTS.format(name), f"({page},0)", f"({page + STEP},0)", tenant)
        deleted += int(done.split()[-1])
    return deleted


STEP = 500
"""Pages of a table that one statement reads."""
PAGES_OF = "SELECT pg_relation_size(to_regclass($1)) / current_setting('block_size')::int"
_EXPIRED = "SELECT id FROM account WHERE expire_time <= $1 AND id > $2 ORDER BY id LIMIT 500"
_EVENTS = "DELETE FROM {} WHERE ctid >= $1::text::tid AND ctid < $2::text::tid AND tenant = $3"


def _of_account(table: str, key: str) -> str:
    return f"""WITH gone AS (DELETE FROM {table} WHERE account = $1 AND {key} = ANY (ARRAY(
      SELECT {key} FROM {table} WHERE account = $1 LIMIT 2000)) RETURNING {key})
    SELECT count(*) FROM gone"""  # noqa: S608 - our own names


ACCOUNT_TABLES: Mapping[str, str] = {
    "outbox": """WITH gone AS (DELETE FROM outbox WHERE (shard, message) IN (
      SELECT o.shard, o.message FROM account a JOIN outbox o ON o.shard = a.shard AND o.account = a.id
        WHERE a.id = $1 LIMIT 2000) RETURNING message)
    SELECT count(*) FROM gone""",
    "media_fetch": _of_account("media_fetch", "message"),
    "message": """WITH gone AS (DELETE FROM message WHERE account = $1 AND id = ANY (ARRAY(
      SELECT id FROM message WHERE account = $1 LIMIT 2000)) RETURNING id),
    receipts AS (DELETE FROM message_receipt WHERE message IN (SELECT id FROM gone)),
    parts AS (DELETE FROM message_receipt_part WHERE message IN (SELECT id FROM gone))
    SELECT count(*) FROM gone""",
    "media_reference": "SELECT media_release($1, 2000)",
    "network_message": _of_account("network_message", "network_id"),
    "person_identity": _of_account("person_identity", "person"),
    "account_record": _of_account("account_record", "key"),
    "chat": _of_account("chat", "chat"),
    "chat_fold": _of_account("chat_fold", "account"),
    "disconnect": _of_account("disconnect", "id"),
    "request": """WITH gone AS (DELETE FROM request WHERE scope = $1 AND (method, request_id) IN (
      SELECT method, request_id FROM request WHERE scope = $1 LIMIT 2000) RETURNING scope)
    SELECT count(*) FROM gone""",
    "driver_row": _of_account("driver_row", "key"),
    "driver_row_count": _of_account("driver_row_count", "account"),
    "credential": _of_account("credential", "account"),
    "session": _of_account("session", "account"),
    "account": "WITH gone AS (DELETE FROM account WHERE id = $1 RETURNING id) SELECT count(*) FROM gone",
}
"""By table what deletes some of an account's rows and answers how many, in the order in which they go."""
# One index probe for each account that is in them; the small tables are read whole, see `ages`.
_LARGE = (
    "message",
    "media_reference",
    "network_message",
    "person_identity",
    "account_record",
    "chat",
    "chat_fold",
    "disconnect",
    "driver_row",
)
_STRAYS = """WITH RECURSIVE owner AS (
    (SELECT account FROM {0} ORDER BY account LIMIT 1)
    UNION ALL
    SELECT (SELECT t.account FROM {0} t WHERE t.account > o.account ORDER BY t.account LIMIT 1)
      FROM owner o WHERE o.account IS NOT NULL)
  SELECT account FROM owner o
    WHERE account IS NOT NULL AND NOT EXISTS (SELECT FROM account a WHERE a.id = o.account)"""
