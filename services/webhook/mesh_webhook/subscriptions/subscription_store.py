"""Subscriptions in the database: what callers make, see, delete, and acknowledge."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from asyncpg.pgproto.pgproto import UUID
from asyncpg.pool import PoolConnectionProxy

from mesh_core import ids
from mesh_core.database.callers import CallerPool, Callers
from mesh_core.database.requests import Method, claim_request
from mesh_core.errors import AlreadyExists, FailedPrecondition, NotFound, ResourceExhausted
from mesh_core.events import Cursor, EventReader
from mesh_core.events.cursor import out_of_range
from mesh_core.ids import Prefix
from mesh_webhook.subscriptions.subscription import LANES, SELECT, NewSubscription, Subscription

MAX_SUBSCRIPTIONS = 1000
"""Of a tenant."""


class SubscriptionStore:
    """The subscriptions of all tenants; every method is about those of one."""

    def __init__(self, callers: Callers, reader: EventReader) -> None:
        self._callers = callers
        self._reader = reader

    async def create(
        self, tenant: UUID, new: NewSubscription, start: Cursor, request_id: str, digest: bytes
    ) -> Subscription:
        """Creates it at `start`, or returns what the same request created.

        Raises `NotFound` for an unknown tenant, `AlreadyExists`, and `ResourceExhausted` when the tenant has
        as many as it may.
        """
        made = ids.new_uuid()
        async with self._callers.locking(tenant, tenant) as connection:
            if not await connection.fetchval(_LOCK_TENANT, tenant):
                raise NotFound("tenant", ids.encode(Prefix.TENANT, tenant))
            method = Method.CREATE_SUBSCRIPTION
            first = await claim_request(connection, tenant, method, request_id, digest, made)
            if first is None:
                count = await connection.fetchval(_COUNT, tenant)
                if count >= MAX_SUBSCRIPTIONS:
                    raise ResourceExhausted(
                        f"the tenant may have {MAX_SUBSCRIPTIONS} subscriptions",
                        "QUOTA_EXCEEDED",
                        quota="subscriptions",
                    )
                values = (new.name, new.event_types, new.account_ids, new.labels)
                if not await connection.fetchval(_CREATE, made, tenant, *values):
                    raise AlreadyExists(
                        f"the tenant has a subscription {new.name}",
                        "RESOURCE_EXISTS",
                        resource="subscription",
                        name=new.name,
                    )
                await connection.execute(_CREATE_LANES, made, LANES, start.place)
            row = await connection.fetchrow(f"{SELECT} WHERE s.id = $1", first or made)
        if row is None:  # the one that the same request created was deleted
            raise NotFound("subscription", new.name)
        return Subscription.of(row)

    async def get(self, tenant: UUID, name: str) -> Subscription:
        """Raises `NotFound`."""
        return await self._get(self._callers.of(tenant), tenant, name)

    async def get_to_consume(self, tenant: UUID, name: str) -> Subscription:
        """Raises `NotFound`, and `OutOfRange` for one that has lost its place."""
        subscription = await self.get(tenant, name)
        if subscription.expire_time is not None:
            raise out_of_range(
                f"of the subscription {name} has expired: delete it, and create it anew",
                await self._reader.oldest(tenant),
            )
        return subscription

    async def page(self, tenant: UUID, after: str, limit: int) -> list[Subscription]:
        """At most `limit` subscriptions behind the name `after`, by name."""
        rows = await self._callers.of(tenant).fetch(_PAGE, tenant, after, limit)
        return [Subscription.of(row) for row in rows]

    async def lags(self, tenant: UUID, subscriptions: Sequence[Subscription]) -> list[timedelta]:
        """How far behind each is: the age of the tenant's first event after its cursor.

        It looks through a bounded number of events, others' too: where the tenant's are further away, the age
        is that of the last one looked at. Raises `DeadlineExceeded` SEARCH_TOO_LONG.
        """
        places = [
            one.cursor if one.cursor.generation == self._reader.generation else Cursor(0, 0, 0)
            for one in subscriptions
        ]
        rows = await self._callers.of(tenant).search(
            LAGS, tenant, [place.xid for place in places], [place.seq for place in places], _LOOKED_AT
        )
        return [max(row["lag"] or timedelta(), timedelta()) for row in rows]

    async def delete(self, tenant: UUID, name: str) -> None:
        """Deletes it; its streams end. Raises `NotFound`."""
        if not await self._callers.of(tenant).fetchval(_DELETE, tenant, name):
            raise NotFound("subscription", name)

    async def acknowledge(
        self, tenant: UUID, name: str, cursor: Cursor, consumer: UUID | None
    ) -> tuple[Subscription, dict[UUID, Cursor]]:
        """Moves what a consumer has done, or (None) all consumers, up to `cursor`, and nowhere past what was
        sent. Returns the subscription, and how far those consumers are.

        Raises `NotFound`, and `FailedPrecondition` for what is not done yet: CONSUMER_GONE where the consumer
        is no more, EVENT_NOT_SENT ahead of all that was sent.
        """
        pool = self._callers.of(tenant)
        rows = await pool.fetch(_ACKNOWLEDGE, tenant, name, cursor.place, consumer)
        after = await self._get(pool, tenant, name)
        if not rows and cursor > after.cursor:
            [(furthest, there)] = await pool.fetch(_FURTHEST, after.id, consumer)
            if not there:
                raise FailedPrecondition(
                    "the consumer is no more: what it had not acknowledged is sent again", "CONSUMER_GONE"
                )
            if cursor > Cursor.of_place(furthest):
                raise FailedPrecondition("the cursor is ahead of all that was sent", "EVENT_NOT_SENT")
        return after, {row["id"]: Cursor.of_place(row["done"]) for row in rows}

    @staticmethod
    async def _get(connection: CallerPool | PoolConnectionProxy, tenant: UUID, name: str) -> Subscription:
        row = await connection.fetchrow(f"{SELECT} WHERE s.tenant = $1 AND s.name = $2", tenant, name)
        if row is None:
            raise NotFound("subscription", name)
        return Subscription.of(row)


_LOOKED_AT = 1000
_LOCK_TENANT = "SELECT true FROM tenant WHERE id = $1 FOR NO KEY UPDATE"
_COUNT = "SELECT count(*) FROM subscription WHERE tenant = $1"
_CREATE = """INSERT INTO subscription (id, tenant, name, event_types, account_ids, labels)
  VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING true"""
_CREATE_LANES = """INSERT INTO subscription_lane (subscription, lane, place)
  SELECT $1, lane, $3 FROM generate_series(0, $2::int - 1) AS lane"""
_PAGE = f"{SELECT} WHERE s.tenant = $1 AND s.name > $2 ORDER BY s.name LIMIT $3"
_DELETE = "DELETE FROM subscription WHERE tenant = $1 AND name = $2 RETURNING true"
_ACKNOWLEDGE = """UPDATE subscription_consumer c SET done = greatest(c.done, least($3, c.sent))
  FROM subscription s WHERE s.tenant = $1 AND s.name = $2 AND c.subscription = s.id
    AND CASE WHEN $4::uuid IS NULL
      THEN EXISTS (SELECT FROM subscription_consumer o WHERE o.subscription = s.id AND o.sent >= $3)
      ELSE c.id = $4 AND c.sent >= $3 END
  RETURNING c.id, c.done"""
_FURTHEST = """SELECT
  (SELECT greatest(l.place, c.sent, c.done) FROM subscription_lane l
     LEFT JOIN subscription_consumer c ON c.id = l.holder
     WHERE l.subscription = $1 ORDER BY 1 DESC LIMIT 1),
  EXISTS (SELECT FROM subscription_consumer WHERE subscription = $1 AND ($2::uuid IS NULL OR id = $2))"""
LAGS = """SELECT now() - (
    SELECT coalesce(min(v.commit_time) FILTER (WHERE v.tenant = $1),
        CASE WHEN count(*) = $4 THEN max(v.commit_time) END)
      FROM (SELECT tenant, commit_time FROM event
        WHERE (xid, seq) > (k.xid, k.seq) AND xid < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY xid, seq LIMIT $4) AS v) AS lag
  FROM unnest($2::xid8[], $3::int[]) WITH ORDINALITY AS k(xid, seq, number) ORDER BY k.number"""
