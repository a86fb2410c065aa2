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
from sessionmesh.v1 import webhook_pb2


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery that this process may attempt until its claim lapses; `tries` attempts were made before."""

    id: UUID
    token: UUID
    endpoint: UUID
    endpoint_version: int
    event: UUID
    event_type: str
    tries: int
    body: bytes
    traceparent: str
    create_time: datetime

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


async def claim(
    pool: asyncpg.Pool, lease_seconds: float, total: int, per_endpoint: int, in_flight: Mapping[UUID, int]
) -> list[ClaimedDelivery]:
    """Claims at most `total` deliveries that are due.

    No endpoint gets more than `per_endpoint`, those counted that `in_flight` says this process has already.
    """
    token = ids.new_uuid()
    rows = await pool.fetch(
        _CLAIM,
        token,
        timedelta(seconds=lease_seconds),
        total,
        per_endpoint,
        [*in_flight],
        [*in_flight.values()],
    )
    return [
        ClaimedDelivery(
            row["id"],
            token,
            row["endpoint"],
            row["endpoint_version"],
            row["event"],
            row["event_type"],
            row["tries"],
            row["body"],
            row["traceparent"],
            row["create_time"],
        )
        for row in rows
    ]


async def complete(pool: asyncpg.Pool, completions: Sequence[Completion]) -> set[UUID]:
    """Stores attempts and the new states of their deliveries, in one transaction.

    Returns the deliveries whose claim still held; for the others nothing was stored.
    """
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


_CLAIM = "SELECT * FROM webhook_claim($1, $2, $3, $4, $5, $6)"
_COMPLETE = "SELECT webhook_complete($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
