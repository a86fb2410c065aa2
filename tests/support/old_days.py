"""Rows of days long past, as the retention finds them: made with ids and times of those days."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import Database
from mesh_core.database.partitions import stored_days
from mesh_core.ids import new_uuid
from mesh_core.settings import DatabaseSettings
from mesh_router.retention import Policy, Retention

QUEUED, SENT = 10, 30
WEEK = Policy.of_days(7, 7)
NOON = datetime(2030, 5, 20, 12, tzinfo=UTC)
"""The present of these tests."""


@dataclass
class OldDays:
    """A database whose present is `NOON`, with a tenant and its account."""

    database: Database
    tenant: UUID
    account: UUID

    async def run(self, policy: Policy = WEEK, now: datetime = NOON) -> bool:
        return await Retention(self.database, policy).run_once(now)

    async def execute(self, statement: str, *arguments: object) -> None:
        await self.database.pool.execute(statement, *arguments)

    async def value(self, query: str, *arguments: object) -> Any:
        return await self.database.pool.fetchval(query, *arguments)

    async def days(self, table: str) -> list[date]:
        """The days that `table` has."""
        async with self.database.pool.acquire() as connection:
            return await stored_days(connection, table)

    async def make_day(self, table: str, at: datetime) -> None:
        await self.execute("SELECT make_day_partition($1, $2)", table, at.date())

    async def new_tenant(self, retention: timedelta | None = None) -> tuple[UUID, UUID]:
        """A tenant and an account of it."""
        tenant, account = new_uuid(), new_uuid()
        seconds = None if retention is None else int(retention.total_seconds())
        await self.execute(
            "INSERT INTO tenant (id, settings) VALUES ($1, CASE WHEN $2::bigint IS NULL THEN '{}'::jsonb"
            " ELSE jsonb_build_object('retention_seconds', $2::bigint) END)",
            tenant,
            seconds,
        )
        await self.execute(
            "INSERT INTO account (id, tenant, driver, shard) VALUES ($1, $2, 'memory', 5)", account, tenant
        )
        return tenant, account

    async def message(
        self, age: timedelta, *, account: UUID | None = None, status: int = SENT, content: bytes = b"body"
    ) -> UUID:
        """A message that is `age` old; with status QUEUED it waits in the outbox."""
        at = NOON - age
        await self.make_day("message", at)
        message = id_of(at)
        account = account or self.account
        await self.execute(
            "INSERT INTO message (id, account, epoch, direction, status, chat, content, origin)"
            " VALUES ($1, $2, 1, 1, $3, 'phone:+4915112345678', $4, 1)",
            message,
            account,
            status,
            content,
        )
        if status == QUEUED:
            await self.execute(
                "INSERT INTO outbox (shard, message, account, priority, due_at) VALUES (5, $1, $2, 0, $3)",
                message,
                account,
                at,
            )
        return message

    async def event(self, age: timedelta, tenant: UUID | None = None, body: bytes = b"body") -> UUID:
        """An event that is `age` old."""
        at = NOON - age
        await self.make_day("event", at)
        event = id_of(at)
        await self.execute(
            "INSERT INTO event (id, seq, tenant, account, epoch, type, body)"
            " VALUES ($1, 1, $2, $3, 1, 'message.sent', $4)",
            event,
            tenant or self.tenant,
            self.account,
            body,
        )
        return event

    async def endpoint(self, tenant: UUID | None = None) -> None:
        """An endpoint, so that the webhooks' reader matters."""
        await self.execute(
            "INSERT INTO webhook_endpoint (id, tenant, url, secret) VALUES ($1, $2, 'https://a.example', '')",
            new_uuid(),
            tenant or self.tenant,
        )

    async def subscription(self, name: str, behind: UUID | None = None, tenant: UUID | None = None) -> UUID:
        """A named subscription that has acknowledged all up to an event, or nothing."""
        subscription = new_uuid()
        await self.execute(
            "INSERT INTO subscription (id, tenant, name, event_types, account_ids, labels)"
            " VALUES ($1, $2, $3, '{}', '{}', '{}')",
            subscription,
            tenant or self.tenant,
            name,
        )
        await self.execute(
            "INSERT INTO subscription_lane (subscription, lane, place) SELECT $1, lane, coalesce("
            "   (SELECT event_place(1, xid, seq) FROM event WHERE id = $2), '')"
            " FROM generate_series(0, 31) AS lane",
            subscription,
            behind,
        )
        return subscription

    async def expired(self) -> list[str]:
        """The names of the subscriptions that have lost their place, of which their tenants were told."""
        told = (
            "SELECT s.name FROM subscription s JOIN event e ON e.tenant = s.tenant"
            " WHERE e.type = 'subscription.expired' AND position(convert_to(s.name, 'UTF8') IN e.body) > 0"
            " AND s.expire_time IS NOT NULL ORDER BY s.name"
        )
        return [row["name"] for row in await self.database.pool.fetch(told)]

    async def webhooks_read_all(self) -> None:
        await self.execute("UPDATE webhook_reader SET xid = pg_snapshot_xmax(pg_current_snapshot())")

    async def has(self, table: str, row: UUID) -> bool:
        return bool(await self.value(f"SELECT EXISTS (SELECT FROM {table} WHERE id = $1)", row))

    async def content(self, message: UUID) -> bytes:
        return bytes(await self.value("SELECT content FROM message WHERE id = $1", message))


def id_of(moment: datetime) -> UUID:
    """A UUIDv7 of that moment, another one at each call."""
    milliseconds = int(moment.timestamp() * 1000)
    return UUID(milliseconds.to_bytes(6, "big") + b"\x70\x00" + uuid.uuid4().bytes[8:])


@asynccontextmanager
async def old_days(postgres_url: str) -> AsyncIterator[OldDays]:
    database = await Database.open(DatabaseSettings(url=postgres_url, pool_size=4))
    days = OldDays(database, UUID(bytes(16)), UUID(bytes(16)))
    try:
        await days.execute(_DROP_PRESENT)
        days.tenant, days.account = await days.new_tenant()
        yield days
    finally:
        await database.close()


_DROP_PRESENT = """SELECT drop_day_partition(parent, to_date(right(c.relname, 8), 'YYYYMMDD'))
  FROM unnest(ARRAY['message', 'event']) AS parent
  JOIN pg_inherits i ON i.inhparent = parent::regclass JOIN pg_class c ON c.oid = i.inhrelid"""
