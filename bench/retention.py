"""Many faked days of a mesh whose old data goes: what grows all the same, and what goes too early.

Rows are written by the journal, under ids of faked days, each day's partitions are made ahead, and the real
retention runs once for each day. Eight days are compared: the last of forty, because some rows live for 30.
Some messages wait for ten days before they are sent, and the webhooks' reader is nine days behind: both for
longer than the retention.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import uvloop
from asyncpg.pgproto.pgproto import UUID

from bench.measuring.report import Report
from mesh_cli.embedded import EmbeddedPostgres
from mesh_core import ids
from mesh_core.database import Database
from mesh_core.database.migrations import migrate
from mesh_core.database.partitions import DAYS_AHEAD, MESSAGE_AND_EVENT
from mesh_core.database.requests import forget_requests
from mesh_core.ids import Prefix
from mesh_core.settings import DatabaseSettings
from mesh_router.retention import Policy, Retention
from mesh_session_node.journal import (
    AccountRef,
    Disconnect,
    Event,
    InboundMessage,
    Journal,
    OutboundMessage,
    ReceiptPart,
    StatusChange,
)
from sessionmesh.internal.v1 import receipt_record_pb2
from sessionmesh.v1 import message_pb2

DAYS, COMPARED = 40, 8
SEND_AFTER, READ_AFTER = 10, 9
"""Days after which waiting messages are sent, and events are read."""
POLICY = Policy.of_days(7, 7)
SHORTER = timedelta(days=1)
TOLERANCE, SMALL = 1.02, 128 * 1024
"""A table that is larger by more than this factor and these bytes, after a vacuum, has grown."""


@dataclass
class Seen:
    """What is counted. Sizes and numbers of tables are by day, after a vacuum."""

    tables: list[int] = field(default_factory=list)
    sizes: list[dict[str, int]] = field(default_factory=list)
    lost_unsent: int = 0
    lost_unread: int = 0
    kept_too_long: int = 0
    failed_runs: int = 0
    waiting: dict[tuple[AccountRef, date], list[UUID]] = field(default_factory=dict)
    events: dict[tuple[AccountRef, date], int] = field(default_factory=dict)


def run(quick: bool) -> Report:
    """Run the days, with fewer messages when `quick`."""
    seen = uvloop.run(_measure(300 if quick else 2000))
    before, after = seen.sizes[-COMPARED], seen.sizes[-1]
    grown = sorted(table for table, size in after.items() if size > before.get(table, 0) * TOLERANCE + SMALL)
    return Report(
        "retention",
        {
            "tables_growth": float(
                len(grown) + max(0, max(seen.tables[-COMPARED:]) - seen.tables[-COMPARED])
            ),
            "lost_unsent": float(seen.lost_unsent),
            "lost_unread": float(seen.lost_unread),
            "kept_too_long": float(seen.kept_too_long),
            "failed_runs": float(seen.failed_runs),
            "tables": float(seen.tables[-1]),
            "size_mb_first_compared": sum(before.values()) / 2**20,
            "size_mb_last": sum(after.values()) / 2**20,
        },
        notes=(
            f"{DAYS} days; the last {COMPARED} are compared. Grown: {', '.join(grown) or 'none'}.",
            f"Waiting messages are sent after {SEND_AFTER} days, events are read after {READ_AFTER}. "
            f"Contents and events go after {POLICY.bodies.days} days, the second tenant's after one.",
        ),
    )


async def _measure(messages: int) -> Seen:
    with tempfile.TemporaryDirectory(prefix="mesh-bench-", ignore_cleanup_errors=True) as folder:
        server = EmbeddedPostgres(Path(folder))
        await server.start()
        try:
            await migrate(server.url)
            database = await Database.open(DatabaseSettings(url=server.url))
            try:
                return await _Days(database, messages).run()
            finally:
                await database.close()
        finally:
            await server.stop()


class _Days:
    """Writes, sends, reads and lets go, day after day until today."""

    def __init__(self, database: Database, messages: int) -> None:
        self._database = database
        self._pool = database.pool
        self._messages = messages
        self._seen = Seen()
        self._waited: list[UUID] = []  # they keep their content until their day goes
        self._retention = Retention(database, POLICY)
        self._began = datetime.now(UTC)
        self._first = self._began.date() - timedelta(days=DAYS + 2)  # request ids go by the server's clock

    async def run(self) -> Seen:
        await self._pool.execute(_DROP_DAYS)
        await self._pool.execute(
            "INSERT INTO node_incarnation (id, node, address) VALUES ('bench', 'bench', '')"
        )
        usual, shorter = await self._account(None), await self._account(SHORTER)
        await self._pool.execute(_ENDPOINT, ids.new_uuid(), usual.tenant)
        journal = Journal(self._database.connect_journal, "bench")
        task = asyncio.create_task(journal.run(lambda _stored: None), name="journal")
        try:
            for number in range(DAYS):
                day = self._first + timedelta(days=number)
                await self._write(day, journal, usual)
                await self._write(day, journal, shorter)
                await self._send_waiting(day, journal, usual)
                await self._send_waiting(day, journal, shorter)
                await self._read(day - timedelta(days=READ_AFTER), usual)
                await self._let_go(day)
                self._seen.kept_too_long += await self._pool.fetchval(
                    _TOO_LONG, shorter.uuid, shorter.tenant, _noon(day) - SHORTER, self._waited
                )
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        return self._seen

    async def _account(self, retention: timedelta | None) -> AccountRef:
        """Of a new tenant; its shard is the journal's."""
        account, tenant = ids.new_uuid(), ids.new_uuid()
        shard = ids.shard_of(ids.encode(Prefix.ACCOUNT, account))
        settings = {} if retention is None else {"retention_seconds": int(retention.total_seconds())}
        await self._pool.execute(_TENANT, tenant, json.dumps(settings))
        await self._pool.execute(_ACCOUNT, account, tenant, shard)
        return AccountRef(account, tenant, shard, await self._pool.fetchval(_OWN, shard))

    async def _write(self, day: date, journal: Journal, account: AccountRef) -> None:
        """A day's messages, one in a hundred of which waits, with receipts and disconnects."""
        for table in MESSAGE_AND_EVENT:
            for ahead in range(DAYS_AHEAD + 1):
                await self._pool.execute("SELECT make_day_partition($1, $2)", table, day + timedelta(ahead))
        noon = int(_noon(day).timestamp() * 1e6)
        writes, waiting, events = [], [], 0
        for number in range(self._messages):
            message = _id_of(day, number)
            event = Event(_id_of(day, number), "message.queued", bytes(200))
            content = number.to_bytes(4, "big") * 50
            if number % 2:
                arrived = InboundMessage(message, str(message), "phone:+4915112345678", content, event)
                writes.append(journal.write(account, arrived))
                events += 1
                continue
            sent = OutboundMessage(message, str(message), bytes(16), "phone:+4915112345678", content, event)
            writes.append(journal.accept(account, sent))
            events += 1
            if number % 100 == 0:
                waiting.append(message)
                continue
            writes.append(
                journal.write(account, StatusChange(message, message_pb2.MESSAGE_STATUS_SENT, noon))
            )
            receipt = ReceiptPart(message, message, _RECEIPT.SerializeToString())
            writes.append(journal.write(account, receipt))
        writes.append(journal.write(account, Disconnect(_id_of(day, 0), 1, "", "bench", noon, noon)))
        await asyncio.gather(*writes)
        self._seen.waiting[account, day] = waiting
        self._waited += waiting
        self._seen.events[account, day] = events
        for table in ("request", "network_message"):
            await self._pool.execute(
                f"UPDATE {table} SET created_at = $1 WHERE created_at >= $2",
                _noon(day),
                self._began,
            )
        await self._pool.execute(_DELETED_ACCOUNT, ids.new_uuid(), account.tenant, _noon(day))

    async def _send_waiting(self, day: date, journal: Journal, account: AccountRef) -> None:
        """Sends what has waited long enough, and counts what is not there any more."""
        then = day - timedelta(days=SEND_AFTER)
        waiting = self._seen.waiting.pop((account, then), [])
        self._seen.lost_unsent += len(waiting) - await self._pool.fetchval(_STILL_WAIT, waiting)
        noon = int(_noon(day).timestamp() * 1e6)
        sent = message_pb2.MESSAGE_STATUS_SENT
        await asyncio.gather(
            *(journal.write(account, StatusChange(message, sent, noon)) for message in waiting)
        )

    async def _read(self, day: date, account: AccountRef) -> None:
        """The webhooks read a day's events; counts those that are not there any more."""
        begin, end = _noon(day) - _HALF_DAY, _noon(day) + _HALF_DAY
        there = await self._pool.fetchval(_EVENTS, account.tenant, begin, end)
        self._seen.lost_unread += self._seen.events.pop((account, day), 0) - there
        await self._pool.execute(_MOVE_READER, begin, end)

    async def _let_go(self, day: date) -> None:
        if not await self._retention.run_once(_noon(day)):
            self._seen.failed_runs += 1
        connection = await self._database.connect_direct()
        try:
            while await forget_requests(connection):
                pass
            await connection.execute("VACUUM")
            sizes: dict[str, int] = defaultdict(int)
            rows = await connection.fetch(_SIZES)
            for row in rows:
                sizes[_DAY.sub("", row["name"])] += row["size"]
        finally:
            await connection.close()
        self._seen.tables.append(len(rows))
        self._seen.sizes.append(sizes)


def _noon(day: date) -> datetime:
    return datetime.combine(day, time(12), UTC)


def _id_of(day: date, number: int) -> UUID:
    """A UUIDv7 of that day, before its noon."""
    milliseconds = int((_noon(day) - _HALF_DAY).timestamp() * 1000) + number
    return UUID(milliseconds.to_bytes(6, "big") + b"\x70\x00" + ids.new_uuid().bytes[8:])


_HALF_DAY = timedelta(hours=12)
_DAY = re.compile(r"_\d{8}$")
_DROP_DAYS = """SELECT drop_day_partition(parent, to_date(right(c.relname, 8), 'YYYYMMDD'))
  FROM unnest(ARRAY['message', 'event']) AS parent
  JOIN pg_inherits i ON i.inhparent = parent::regclass JOIN pg_class c ON c.oid = i.inhrelid"""
_TENANT = "INSERT INTO tenant (id, settings) VALUES ($1, $2)"
_ACCOUNT = "INSERT INTO account (id, tenant, driver, shard) VALUES ($1, $2, 'simulated', $3)"
_ENDPOINT = "INSERT INTO webhook_endpoint (id, tenant, url, secret) VALUES ($1, $2, 'https://a.example', '')"
_OWN = "UPDATE shard_fence SET holder = 'bench', epoch = epoch + 1 WHERE shard = $1 RETURNING epoch"
_DELETED_ACCOUNT = """INSERT INTO account (id, tenant, driver, shard, delete_time, expire_time)
  VALUES ($1, $2, 'simulated', 0, $3::timestamptz, $3::timestamptz + interval '30 days')"""
_STILL_WAIT = """SELECT count(*) FROM message m JOIN outbox o ON o.message = m.id
  WHERE m.id = ANY ($1) AND octet_length(m.content) > 0"""
_EVENTS = """SELECT count(*) FROM event
  WHERE tenant = $1 AND type = 'message.queued' AND id >= uuid_at($2) AND id < uuid_at($3)"""
_MOVE_READER = """UPDATE webhook_reader r SET xid = e.xid, seq = e.seq
  FROM (SELECT xid, seq FROM event WHERE id >= uuid_at($1) AND id < uuid_at($2)
    ORDER BY xid DESC, seq DESC LIMIT 1) e"""
_TOO_LONG = """SELECT
  (SELECT count(*) FROM message WHERE account = $1 AND id < uuid_at($3::timestamptz)
     AND octet_length(content) > 0 AND status NOT IN (10, 20) AND id <> ALL ($4::uuid[]))
  + (SELECT count(*) FROM event WHERE tenant = $2 AND id < uuid_at($3::timestamptz))"""
_SIZES = """SELECT relname AS name, pg_total_relation_size(oid) AS size FROM pg_class
  WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"""
_RECEIPT = receipt_record_pb2.ReceiptPart(
    status=message_pb2.MESSAGE_STATUS_DELIVERED, members=["phone:+491"], times=[1]
)
