"""Claiming deliveries for an attempt, and storing what came of it.

A claim is a token with a lease. While it holds, only its holder may complete the delivery; after that anybody
may claim the delivery again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_webhook.deliveries.http_sender import AttemptResult
from mesh_webhook.deliveries.slots import Due, Share
from sessionmesh.v1 import webhook_pb2


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery that this process may attempt until its claim lapses; `tries` attempts were made before.
    `replay` is the job that made it pending again.
    """

    id: UUID
    token: UUID
    tenant: UUID
    endpoint: UUID
    endpoint_version: int
    event: UUID
    event_type: str
    tries: int
    body: bytes
    traceparent: str
    create_time: datetime
    replay: UUID | None = None

    @property
    def is_retry(self) -> bool:
        """Whether others go first: it was attempted before, or is replayed."""
        return self.tries > 0 or self.replay is not None

    @property
    def marks(self) -> dict[str, str]:
        """The headers that say that it is replayed, and by which job."""
        return {} if self.replay is None else {"webhook-replay": ids.encode(Prefix.JOB, self.replay)}

    @property
    def webhook_id(self) -> str:
        """The public id of the delivery, the same in every attempt."""
        return ids.encode(Prefix.DELIVERY, self.id)


@dataclass(frozen=True, slots=True)
class Completion:
    """The result of an attempt, and what happens to its delivery next.

    `retry_in` is the seconds until the next attempt; None: there is none, the delivery has ended.
    `hold_endpoint` is the seconds for which no delivery of the endpoint is attempted.
    """

    delivery: UUID
    token: UUID
    result: AttemptResult
    retry_in: float | None
    hold_endpoint: float | None = None

    @property
    def state(self) -> webhook_pb2.DeliveryState.ValueType:
        """The delivery's state after this attempt."""
        if self.result.succeeded:
            return webhook_pb2.DELIVERY_STATE_SUCCEEDED
        if self.retry_in is None:
            return webhook_pb2.DELIVERY_STATE_FAILED
        return webhook_pb2.DELIVERY_STATE_PENDING


async def due(
    pool: asyncpg.Pool, after: UUID, full_tenants: Sequence[UUID], full_endpoints: Sequence[UUID]
) -> list[Due]:
    """Endpoints that have something due and are not full, in turn over tenants from `after` on.

    A bounded number of tenants, and of each a bounded number of endpoints, those first that wait longest.
    """
    rows = await pool.fetch(_DUE, after, _TENANTS, _ENDPOINTS, full_tenants, full_endpoints)
    return [Due(row["tenant"], row["endpoint"]) for row in rows]


async def take(
    pool: asyncpg.Pool, lease_seconds: float, shares: Mapping[UUID, Share]
) -> list[ClaimedDelivery]:
    """Claims deliveries that are due, of each endpoint at most its share."""
    token = ids.new_uuid()
    rows = await pool.fetch(
        _TAKE,
        token,
        timedelta(seconds=lease_seconds),
        [*shares],
        [share.room for share in shares.values()],
        [share.retries for share in shares.values()],
    )
    return [
        ClaimedDelivery(
            row["id"],
            token,
            row["tenant"],
            row["endpoint"],
            row["endpoint_version"],
            row["event"],
            row["event_type"],
            row["tries"],
            row["body"],
            row["traceparent"],
            row["create_time"],
            row["replay"],
        )
        for row in rows
    ]


async def complete(pool: asyncpg.Pool, completions: Sequence[Completion]) -> set[UUID]:
    """Stores attempts and the new states of their deliveries, in one transaction.

    Returns the deliveries whose claim still held; for the others nothing was stored. Deliveries are locked by
    id, as all do who lock several and wait.
    """
    completions = sorted(completions, key=lambda completion: completion.delivery)
    results = [completion.result for completion in completions]
    rows = await pool.fetch(
        _COMPLETE,
        [completion.delivery for completion in completions],
        [completion.token for completion in completions],
        [completion.state for completion in completions],
        [_interval(completion.retry_in) for completion in completions],
        [ids.new_uuid() for _ in completions],
        [result.start_time for result in results],
        [timedelta(seconds=result.seconds) for result in results],
        [result.status for result in results],
        [result.error for result in results],
        [result.body for result in results],
        [_interval(completion.hold_endpoint) for completion in completions],
    )
    return {row[0] for row in rows}


def _interval(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


_TENANTS = 64
_ENDPOINTS = 16
_DUE = "SELECT * FROM webhook_due($1, $2, $3, $4, $5)"
_TAKE = "SELECT * FROM webhook_claim_due($1, $2, $3, $4, $5)"
_COMPLETE = "SELECT webhook_complete($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
