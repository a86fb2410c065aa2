"""Tenants and keys: a tenant's fields checked as callers give them, and rows shown as the API does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import asyncpg

from mesh_core import ids, validation
from mesh_core.ids import Prefix
from mesh_core.rpc.auth import TENANT_SCOPES, Role, account_names, scopes_of
from mesh_router.retention import Policy
from sessionmesh.v1 import authorization_pb2, tenant_pb2

Count = Literal["max_accounts", "max_endpoints", "max_media_bytes", "calls_per_second"]
MIN_RETENTION = timedelta(hours=1)
MAX_RETENTION = timedelta(days=3650)


def tenant_message(policy: Policy, row: asyncpg.Record) -> tenant_pb2.Tenant:
    """The tenant of a row of table `tenant`."""
    stored = json.loads(row["settings"])
    return tenant_pb2.Tenant(
        id=ids.encode(Prefix.TENANT, row["id"]),
        external_id=row["external_id"] or "",
        display_name=row["display_name"],
        state=row["state"],
        settings=settings_message(stored),
        create_time=validation.to_timestamp(row["create_time"]),
        update_time=validation.to_timestamp(row["update_time"]),
        etag=validation.etag(row["version"]),
        effective_retention=validation.to_duration(policy.of(stored.get("retention_seconds"))),
    )


def settings_message(stored: dict[str, Any]) -> tenant_pb2.TenantSettings:
    """The settings of the decoded column `tenant.settings`; what is not in it is absent."""
    settings = tenant_pb2.TenantSettings(**{name: stored.get(name) for name in COUNTS})
    if seconds := stored.get("retention_seconds"):
        settings.retention.FromTimedelta(timedelta(seconds=seconds))
    return settings


@dataclass(frozen=True, slots=True)
class TenantFields:
    """What can be changed of a tenant, checked. `settings` are whole numbers as stored, of those given."""

    display_name: str
    state: tenant_pb2.TenantState.ValueType
    settings: dict[str, int]


def checked(tenant: tenant_pb2.Tenant) -> TenantFields:
    """The fields of `tenant`; a state that is not set is ACTIVE. Raises `InvalidField`."""
    validation.choice("tenant.state", tenant.state, _STATES, "ACTIVE, SUSPENDED")
    return TenantFields(
        display_name=validation.visible_text("tenant.display_name", tenant.display_name),
        state=tenant.state or tenant_pb2.TENANT_STATE_ACTIVE,
        settings=_stored_settings(tenant.settings),
    )


def _stored_settings(settings: tenant_pb2.TenantSettings) -> dict[str, int]:
    stored: dict[str, int] = {
        name: validation.at_least(f"tenant.settings.{name}", getattr(settings, name), least)
        for name, least in COUNTS.items()
        if settings.HasField(name)
    }
    if settings.HasField("retention"):
        retention = validation.duration(
            "tenant.settings.retention", settings.retention, least=MIN_RETENTION, most=MAX_RETENTION
        )
        stored["retention_seconds"] = int(retention.total_seconds())
    return stored


def key_message(row: asyncpg.Record) -> tenant_pb2.ApiKey:
    """The key of a row of table `api_key`, without its secret."""
    administrator = row["role"] == Role.ADMIN
    scopes = TENANT_SCOPES | {authorization_pb2.SCOPE_OPERATOR} if administrator else scopes_of(row["scopes"])
    key = tenant_pb2.ApiKey(
        id=ids.encode(Prefix.KEY, row["id"]),
        tenant_id="" if row["tenant"] is None else ids.encode(Prefix.TENANT, row["tenant"]),
        display_name=row["name"],
        scopes=sorted(scopes),
        account_ids=sorted(account_names(row["account_ids"]) or ()),
        create_time=validation.to_timestamp(row["create_time"]),
    )
    for field in ("expire_time", "revoke_time", "last_use_time"):
        if row[field] is not None:
            getattr(key, field).CopyFrom(validation.to_timestamp(row[field]))
    return key


COUNTS: dict[Count, int] = {
    "max_accounts": 0,
    "max_endpoints": 0,
    "max_media_bytes": 0,
    "calls_per_second": 1,
}
"""The settings that are whole numbers, and the least that each may be."""
_STATES = (
    tenant_pb2.TENANT_STATE_UNSPECIFIED,
    tenant_pb2.TENANT_STATE_ACTIVE,
    tenant_pb2.TENANT_STATE_SUSPENDED,
)
