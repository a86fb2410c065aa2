"""An endpoint, as it is stored and as callers see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import asyncpg
import orjson
from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids, validation
from mesh_core.ids import Prefix
from mesh_core.validation import to_timestamp
from mesh_webhook.events.filters import EventFilter
from sessionmesh.v1 import webhook_pb2


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Which transactions had ended at some moment: Postgres's `pg_snapshot`."""

    xmin: int
    xmax: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> Snapshot:
        """From Postgres's text form, `xmin:xmax:xip,xip`."""
        xmin, xmax, running = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(map(int, filter(None, running.split(",")))))

    def sees(self, xid: int) -> bool:
        """Whether the transaction had ended at that moment."""
        return xid < self.xmin or (xid < self.xmax and xid not in self.running)


@dataclass(frozen=True, slots=True)
class FormerSecret:
    """A sealed secret that was replaced, and signs as well until `until`."""

    secret: bytes
    until: datetime


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A row of webhook_endpoint; secrets and headers are sealed. `rate_per_second` None: no limit."""

    id: UUID
    tenant: UUID
    url: str
    display_name: str
    event_types: tuple[str, ...]
    account_ids: tuple[UUID, ...]
    labels: Mapping[str, str]
    headers: bytes | None
    header_names: tuple[str, ...]
    state: int
    rate_per_second: int | None
    secret: bytes
    former_secrets: tuple[FormerSecret, ...]
    disable_reason: str
    since: Snapshot
    version: int
    create_time: datetime
    update_time: datetime

    @classmethod
    def of(cls, row: asyncpg.Record) -> Endpoint:
        """From a row selected with `COLUMNS`."""
        return cls(
            row["id"],
            row["tenant"],
            row["url"],
            row["display_name"],
            tuple(row["event_types"]),
            tuple(row["account_ids"]),
            dict(orjson.loads(row["labels"])),
            row["headers"],
            tuple(row["header_names"]),
            row["state"],
            row["rate_per_second"],
            row["secret"],
            _former_secrets(row),
            row["disable_reason"],
            Snapshot.parse(row["since"]),
            row["version"],
            row["create_time"],
            row["update_time"],
        )

    @property
    def public_id(self) -> str:
        """The id that callers know, `whe_...`."""
        return ids.encode(Prefix.ENDPOINT, self.id)

    @property
    def etag(self) -> str:
        """The version as callers see it; an update with this etag changes exactly this version."""
        return validation.etag(self.version)

    def filter(self) -> EventFilter:
        """The filter of the events that it wants."""
        return EventFilter.of(self.event_types, self.account_ids, self.labels)

    def to_proto(self) -> webhook_pb2.Endpoint:
        """The endpoint as callers see it, without its secret and the values of its headers."""
        return webhook_pb2.Endpoint(
            id=self.public_id,
            tenant_id=ids.encode(Prefix.TENANT, self.tenant),
            url=self.url,
            display_name=self.display_name,
            event_types=self.event_types,
            account_ids=[ids.encode(Prefix.ACCOUNT, account) for account in self.account_ids],
            labels=self.labels,
            header_names=self.header_names,
            state=webhook_pb2.EndpointState.ValueType(self.state),
            rate_per_second=self.rate_per_second,
            disable_reason=self.disable_reason,
            create_time=to_timestamp(self.create_time),
            update_time=to_timestamp(self.update_time),
            etag=self.etag,
        )


def _former_secrets(row: asyncpg.Record) -> tuple[FormerSecret, ...]:
    """Those that may still sign, and the one before the current one if only the release before stored it."""
    former = [FormerSecret(*one) for one in zip(row["former_secrets"], row["former_until"], strict=True)]
    previous = row["previous_secret"]
    if previous is not None and all(one.secret != previous for one in former):
        former.insert(0, FormerSecret(previous, row["previous_until"]))
    return tuple(former)


COLUMNS = """e.id, e.tenant, e.url, e.display_name, e.event_types, e.account_ids, e.labels, e.headers,
  e.header_names, e.state, e.rate_per_second, e.secret, e.previous_secret, e.previous_until,
  e.former_secrets, e.former_until, e.disable_reason,
  e.since::text AS since, e.version, e.create_time, e.update_time"""
