"""Deliveries in the database: claimed for a while, completed by whoever holds the claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_webhook.sender import Answer
from sessionmesh.v1 import webhook_pb2


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that this process may attempt until its claim lapses."""

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
        """The same in every attempt."""
        return ids.encode(Prefix.DELIVERY, self.id)


@dataclass(frozen=True, slots=True)
class Completion:
    """An attempt, and what becomes of its delivery: `wait` seconds to the next one, or its end with None.

    `hold` seconds keep all deliveries of the endpoint back.
    """

    delivery: UUID
    token: UUID
    answer: Answer
    wait: float | None
    hold: float | None = None

    @property
    def state(self) -> int:
        """The delivery's state from now on."""
        if self.answer.succeeded:
            return webhook_pb2.DELIVERY_STATE_SUCCEEDED
        return webhook_pb2.DELIVERY_STATE_FAILED if self.wait is None else webhook_pb2.DELIVERY_STATE_PENDING


async def claim(
    pool: asyncpg.Pool, lease: float, total: int, per_endpoint: int, in_flight: Mapping[UUID, int]
) -> list[Claimed]:
    """Claims at most `total` deliveries that are due, up to `per_endpoint` in flight here of each one."""
    token = ids.new_uuid()
    rows = await pool.fetch(
        _CLAIM, token, timedelta(seconds=lease), total, per_endpoint, [*in_flight], [*in_flight.values()]
    )
    return [
        Claimed(
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
    """Stores attempts and what became of their deliveries; returns those whose claim still held."""
    answers = [completion.answer for completion in completions]
    rows = await pool.fetch(
        _COMPLETE,
        [completion.delivery for completion in completions],
        [completion.token for completion in completions],
        [completion.state for completion in completions],
        [_interval(completion.wait) for completion in completions],
        [ids.new_uuid() for _ in completions],
        [answer.start_time for answer in answers],
        [timedelta(seconds=answer.seconds) for answer in answers],
        [answer.status for answer in answers],
        [answer.error for answer in answers],
        [answer.body for answer in answers],
        [_interval(completion.hold) for completion in completions],
    )
    return {row[0] for row in rows}


def _interval(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)


_CLAIM = "SELECT * FROM webhook_claim($1, $2, $3, $4, $5, $6)"
_COMPLETE = "SELECT webhook_complete($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
