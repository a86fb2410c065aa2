"""An account's fields: checked as callers give them, and shown as the API does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, Literal

import asyncpg
import msgspec
import orjson

from mesh_core import ids, validation
from mesh_core.errors import InvalidField
from mesh_core.ids import Prefix
from mesh_core.settings import Positive
from sessionmesh.v1 import account_pb2

CHANGEABLE = ("display_name", "phone", "labels", "desired_state", "send_limits")
"""What an update mask may name."""


class SendCeilingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The section `sendceiling`: the highest `send_limits` that a tenant's key can give an account."""

    per_minute: Positive = 100_000
    per_hour: Positive = 1_000_000
    per_day: Positive = 10_000_000
    outbox: Positive = 100_000


@dataclass(frozen=True, slots=True)
class Fields:
    """Values for the columns of these names; `settings` has the send limits."""

    external_id: str | None
    driver: str
    display_name: str
    phone: str
    labels: str
    desired_state: int
    settings: str


def checked(account: account_pb2.Account, default_driver: str) -> Fields:
    """The fields of `account`, whose enums are known to be in range. Raises `InvalidField` with a path such
    as `account.phone`. `default_driver` is the column of accounts that name none.
    """
    for name in _LIMITS:
        validation.at_least(f"account.send_limits.{name}", getattr(account.send_limits, name), 0)
    return Fields(
        external_id=validation.visible_text("account.external_id", account.external_id) or None,
        driver=stored_driver(account.driver) if account.driver else default_driver,
        display_name=validation.visible_text("account.display_name", account.display_name),
        phone=validation.phone("account.phone", account.phone) if account.phone else "",
        labels=json.dumps(validation.labels("account.labels", account.labels)),
        desired_state=account.desired_state or account_pb2.DESIRED_STATE_ONLINE,
        settings=_stored_limits(account.send_limits),
    )


def check_ceiling(limits: account_pb2.SendLimits, ceiling: SendCeilingSettings) -> None:
    """Raises `InvalidField` for the first of the limits that is above the operator's ceiling."""
    for name in _LIMITS:
        if getattr(limits, name) > (most := getattr(ceiling, name)):
            raise InvalidField(f"account.send_limits.{name}", f"must be at most {most:,}")


def account_message(row: asyncpg.Record) -> account_pb2.Account:
    """The account of a row of table `account`, with the number that it is paired with as `paired_phone`."""
    account = account_pb2.Account(
        id=ids.encode(Prefix.ACCOUNT, row["id"]),
        tenant_id=ids.encode(Prefix.TENANT, row["tenant"]),
        external_id=row["external_id"] or "",
        display_name=row["display_name"],
        driver=account_pb2.Driver.Value(f"DRIVER_{row['driver'].upper()}"),
        phone=row["paired_phone"] or row["phone"],
        labels=orjson.loads(row["labels"]),
        desired_state=row["desired_state"],
        send_limits=_limits_message(orjson.loads(row["settings"])),
        create_time=validation.to_timestamp(row["create_time"]),
        update_time=validation.to_timestamp(row["update_time"]),
        etag=validation.etag(row["version"]),
    )
    if row["delete_time"] is not None:
        account.delete_time.CopyFrom(validation.to_timestamp(row["delete_time"]))
        account.purge_time.CopyFrom(validation.to_timestamp(row["expire_time"]))
    return account


def stored_driver(driver: account_pb2.Driver.ValueType) -> str:
    """The value of column `driver`: `simulated`, `whatsapp_web` or `whatsapp_cloud`."""
    return account_pb2.Driver.Name(driver).removeprefix("DRIVER_").lower()


def _stored_limits(limits: account_pb2.SendLimits) -> str:
    """The value of column `settings`: `{"send_limits": {"per_minute": 60}}`; what is absent is left out."""
    given = {name: getattr(limits, name) for name in _LIMITS if limits.HasField(name)}
    return json.dumps({"send_limits": given} if given else {})


def _limits_message(settings: dict[str, Any]) -> account_pb2.SendLimits:
    return account_pb2.SendLimits(**settings.get("send_limits", {}))


_LIMITS: Final[tuple[Literal["per_minute", "per_hour", "per_day", "outbox"], ...]] = (
    "per_minute",
    "per_hour",
    "per_day",
    "outbox",
)
