"""A named subscription, as it is stored and as callers see it."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg
import orjson
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids, validation
from mesh_core.errors import InvalidField
from mesh_core.events import Cursor
from mesh_core.ids import Prefix
from mesh_core.validation import to_duration, to_timestamp
from mesh_webhook.events import filters
from mesh_webhook.events.filters import EventFilter
from sessionmesh.v1 import event_pb2

LANES = 32
"""Parts that a subscription's accounts are in; the schema has the same number."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """A row of table subscription. `cursor`: everything up to it is acknowledged, or is nothing for it.
    `consumers` is how many streams share it.
    """

    id: UUID
    tenant: UUID
    name: str
    event_types: tuple[str, ...]
    account_ids: tuple[UUID, ...]
    labels: Mapping[str, str]
    create_time: datetime
    expire_time: datetime | None
    cursor: Cursor
    consumers: int

    @classmethod
    def of(cls, row: asyncpg.Record) -> Subscription:
        """From a row selected with `SELECT`."""
        return cls(
            row["id"],
            row["tenant"],
            row["name"],
            tuple(row["event_types"]),
            tuple(row["account_ids"]),
            dict(orjson.loads(row["labels"])),
            row["create_time"],
            row["expire_time"],
            Cursor.of_place(row["place"]),
            row["consumers"],
        )

    def filter(self) -> EventFilter:
        """The filter of the events that it wants."""
        return EventFilter.of(self.event_types, self.account_ids, self.labels)

    def to_proto(self, lag: timedelta) -> event_pb2.Subscription:
        """The subscription as callers see it."""
        shown = event_pb2.Subscription(
            name=self.name,
            tenant_id=ids.encode(Prefix.TENANT, self.tenant),
            event_types=self.event_types,
            account_ids=[ids.encode(Prefix.ACCOUNT, account) for account in self.account_ids],
            labels=self.labels,
            cursor=self.cursor.encode(),
            lag=to_duration(lag),
            create_time=to_timestamp(self.create_time),
            consumers=self.consumers,
        )
        if self.expire_time is not None:
            shown.expire_time.CopyFrom(to_timestamp(self.expire_time))
        return shown


@dataclass(frozen=True, slots=True)
class NewSubscription:
    """What a caller asks for, checked; `labels` as JSON."""

    name: str
    event_types: list[str]
    account_ids: list[UUID]
    labels: str

    @classmethod
    def of(cls, wanted: event_pb2.Subscription) -> NewSubscription:
        """Raises `InvalidField`."""
        return cls(
            check_name("subscription.name", wanted.name),
            filters.check_event_types("subscription.event_types", wanted.event_types),
            filters.check_accounts("subscription.account_ids", wanted.account_ids),
            orjson.dumps(validation.labels("subscription.labels", wanted.labels)).decode(),
        )


def check_name(field: str, name: str) -> str:
    """`name`; raises `InvalidField` for what cannot be one."""
    if not _is_name(name):
        raise InvalidField(field, "must be 1 to 64 of a-z, 0-9, - and _")
    return name


def lane_of(account: UUID) -> int:
    """Which part of a subscription an account's events are in; the tenant's own are those of account zero.

    What is stored depends on it: it must never change.
    """
    return zlib.crc32(account.bytes) % LANES


SELECT = """SELECT s.id, s.tenant, s.name, s.event_types, s.account_ids, s.labels, s.create_time,
    s.expire_time,
    (SELECT greatest(l.place, coalesce(c.done, '')) FROM subscription_lane l
       LEFT JOIN subscription_consumer c ON c.id = l.holder
       WHERE l.subscription = s.id ORDER BY 1 LIMIT 1) AS place,
    (SELECT count(*) FROM subscription_consumer c WHERE c.subscription = s.id) AS consumers
  FROM subscription s"""
_is_name = re.compile(r"[a-z0-9_-]{1,64}").fullmatch
