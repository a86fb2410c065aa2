"""Accounts as rows, and as the API shows them."""

from __future__ import annotations

import json
from typing import Any

import asyncpg

from mesh_core import ids, validation
from mesh_core.ids import Prefix
from mesh_router.requests import etag
from sessionmesh.v1 import account_pb2


def account_message(row: asyncpg.Record) -> account_pb2.Account:
    """The account of a row of table `account`."""
    account = account_pb2.Account(
        id=ids.encode(Prefix.ACCOUNT, row["id"]),
        tenant_id=ids.encode(Prefix.TENANT, row["tenant"]),
        external_id=row["external_id"] or "",
        display_name=row["display_name"],
        driver=account_pb2.Driver.Value(f"DRIVER_{row['driver'].upper()}"),
        phone=row["phone"],
        labels=json.loads(row["labels"]),
        desired_state=row["desired_state"],
        send_limits=_limits_message(json.loads(row["settings"])),
        create_time=validation.to_timestamp(row["create_time"]),
        update_time=validation.to_timestamp(row["update_time"]),
        etag=etag(row["version"]),
    )
    if row["delete_time"] is not None:
        account.delete_time.CopyFrom(validation.to_timestamp(row["delete_time"]))
        account.purge_time.CopyFrom(validation.to_timestamp(row["expire_time"]))
    return account


def stored_driver(driver: account_pb2.Driver.ValueType) -> str:
    """The form of column `account.driver`: `simulated`, `whatsapp_web` or `whatsapp_cloud`."""
    return account_pb2.Driver.Name(driver).removeprefix("DRIVER_").lower()


def stored_limits(limits: account_pb2.SendLimits) -> str:
    """The form of column `account.settings`: `{"send_limits": {"per_minute": 60}}`, nothing for zero."""
    given = {name: getattr(limits, name) for name in LIMITS if getattr(limits, name)}
    return json.dumps({"send_limits": given} if given else {})


def _limits_message(settings: dict[str, Any]) -> account_pb2.SendLimits:
    return account_pb2.SendLimits(**settings.get("send_limits", {}))


LIMITS = ("per_minute", "per_hour", "per_day", "outbox")
