"""AuditService: reads what the servers of all parts noted (`mesh_core.rpc.audit`)."""

from __future__ import annotations

import re
from typing import Any

import asyncpg
from asyncpg.pgproto.pgproto import UUID
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core import ids
from mesh_core.database import Database
from mesh_core.errors import InvalidField
from mesh_core.ids import Prefix
from mesh_core.paging import Pager
from mesh_core.rpc.auth import current_identity
from sessionmesh.v1 import audit_pb2 as pb
from sessionmesh.v1 import audit_pb2_grpc

MAX_FILTER = 255
"""Characters of a filter."""


class AuditService(audit_pb2_grpc.AuditServiceServicer):
    """Calls of the caller's tenant; an administrator sees all, those of the mesh itself included."""

    def __init__(self, database: Database, pager: Pager) -> None:
        self._callers = database.callers
        self._pager = pager

    async def ListAuditEvents(
        self, request: pb.ListAuditEventsRequest, context: Any
    ) -> pb.ListAuditEventsResponse:
        identity = current_identity()
        everyone = identity.tenant_id is None and not request.tenant_id
        tenant = None if everyone else identity.tenant_for(request.tenant_id)
        account = ids.decode(Prefix.ACCOUNT, request.account_id, "account_id") if request.account_id else None
        for field in ("key_id", "resource", "method"):
            if len(getattr(request, field)) > MAX_FILTER:
                raise InvalidField(field, f"must have at most {MAX_FILTER} characters")
        if request.method and not _METHOD.fullmatch(request.method):
            raise InvalidField("method", "must be like /sessionmesh.v1.TenantService/CreateApiKey")
        begin = request.start_time.ToDatetime() if request.HasField("start_time") else None
        end = request.end_time.ToDatetime() if request.HasField("end_time") else None
        if begin and end and end <= begin:
            raise InvalidField("end_time", "must be after start_time")
        page = self._pager.page(request, tenant.bytes if tenant else b"")
        rows = await self._callers.of(identity.tenant_id).search(
            _PAGE,
            tenant,
            page.after_id,
            begin,
            end,
            request.key_id or None,
            account,
            request.resource or None,
            request.method or None,
            request.failed_only,
            page.fetch,
        )
        events, next_page_token = page.cut(rows, _event)
        return pb.ListAuditEventsResponse(events=events, next_page_token=next_page_token)


def _event(row: asyncpg.Record) -> pb.AuditEvent:
    event = pb.AuditEvent(
        id=ids.encode(Prefix.AUDIT, row["id"]),
        tenant_id=_id(Prefix.TENANT, row["tenant"]),
        account_id=_id(Prefix.ACCOUNT, row["account"]),
        occur_time=_time(row["id"]),
        key_id=row["key_id"],
        key_display_name=row["key_name"],
        method=row["method"],
        resource=row["resource"],
        changed_fields=row["changed_fields"].splitlines(),
        source_address=row["source"],
        request_id=row["request_id"],
        user_agent=row["user_agent"],
        traceparent=row["traceparent"],
    )
    event.status.MergeFromString(row["status"])
    event.status.SetInParent()
    return event


def _id(prefix: Prefix, uuid: UUID | None) -> str:
    return "" if uuid is None else ids.encode(prefix, uuid)


def _time(uuid: UUID) -> Timestamp:
    """When a UUIDv7 was made, to the millisecond."""
    time = Timestamp()
    time.FromMilliseconds(int.from_bytes(uuid.bytes[:6], "big"))
    return time


_METHOD = re.compile(r"/[A-Za-z0-9_.]+/[A-Za-z0-9_]+")
_PAGE = """SELECT * FROM audit_event
  WHERE ($1::uuid IS NULL OR tenant = $1) AND ($2::uuid IS NULL OR id < $2)
    AND ($3::timestamp IS NULL OR id >= uuid_at($3 AT TIME ZONE 'UTC'))
    AND ($4::timestamp IS NULL OR id < uuid_at($4 AT TIME ZONE 'UTC'))
    AND ($5::text IS NULL OR key_id = $5) AND ($6::uuid IS NULL OR account = $6)
    AND ($7::text IS NULL OR resource = $7) AND ($8::text IS NULL OR method = $8) AND (NOT $9 OR code <> 0)
  ORDER BY id DESC LIMIT $10"""
