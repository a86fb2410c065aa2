"""Tenants: created, changed and deleted by operators."""

from __future__ import annotations

import json
from functools import partial

import asyncpg

from mesh_core import ids, validation
from mesh_core.database import Database
from mesh_core.database.requests import OPERATOR_SCOPE, Method, claim_request, request_digest
from mesh_core.errors import AlreadyExists, FailedPrecondition, NotFound
from mesh_core.ids import Prefix
from mesh_core.jobs import job_message
from mesh_core.paging import Pager
from mesh_core.rpc.auth import current_identity
from mesh_router.retention import Policy
from mesh_router.retention.tenants import delete_tenant
from mesh_router.tenants.deletion import TenantDeletions
from mesh_router.tenants.rows import COUNTS, checked, tenant_message
from sessionmesh.v1 import tenant_pb2

SETTINGS = (*(f"settings.{name}" for name in COUNTS), "settings.retention")
CHANGEABLE = ("display_name", "state", "settings", *SETTINGS)


class Tenants:
    """The tenants' half of TenantService."""

    def __init__(self, database: Database, pager: Pager, policy: Policy, deletions: TenantDeletions) -> None:
        self._callers = database.callers
        self._pager = pager
        self._deletions = deletions
        self._shown = partial(tenant_message, policy)

    async def create(self, request: tenant_pb2.CreateTenantRequest) -> tenant_pb2.CreateTenantResponse:
        """A repeat of the same request returns the tenant as it is now."""
        request_id = validation.request_id(request.request_id)
        tenant = request.tenant
        external_id = validation.visible_text("tenant.external_id", tenant.external_id) or None
        fields = checked(tenant)
        tenant_id = ids.new_uuid()
        async with self._callers.of(current_identity().tenant_id).transaction() as connection:
            first = await claim_request(
                connection,
                OPERATOR_SCOPE,
                Method.CREATE_TENANT,
                request_id,
                request_digest(request),
                tenant_id,
            )
            if first is None:
                try:
                    row = await connection.fetchrow(
                        _INSERT,
                        tenant_id,
                        external_id,
                        fields.display_name,
                        fields.state,
                        json.dumps(fields.settings),
                    )
                except asyncpg.UniqueViolationError:
                    raise AlreadyExists(
                        f"a tenant with external_id {external_id} exists",
                        "RESOURCE_EXISTS",
                        resource="tenant",
                        name=external_id or "",
                    ) from None
            else:
                row = await connection.fetchrow(_GET, first)
        return tenant_pb2.CreateTenantResponse(
            tenant=self._shown(_found(row, ids.encode(Prefix.TENANT, first or tenant_id)))
        )

    async def get(self, request: tenant_pb2.GetTenantRequest) -> tenant_pb2.GetTenantResponse:
        """For a tenant's key only that tenant exists."""
        tenant_id = current_identity().tenant_for(request.tenant_id)
        row = await self._callers.of(current_identity().tenant_id).fetchrow(_GET, tenant_id)
        return tenant_pb2.GetTenantResponse(tenant=self._shown(_found(row, request.tenant_id)))

    async def list(self, request: tenant_pb2.ListTenantsRequest) -> tenant_pb2.ListTenantsResponse:
        page = self._pager.page(request)
        external_id = validation.text("external_id", request.external_id) or None
        rows = await self._callers.of(current_identity().tenant_id).search(
            _LIST, page.after_id, external_id, page.fetch
        )
        tenants, next_page_token = page.cut(rows, self._shown)
        return tenant_pb2.ListTenantsResponse(tenants=tenants, next_page_token=next_page_token)

    async def update(self, request: tenant_pb2.UpdateTenantRequest) -> tenant_pb2.UpdateTenantResponse:
        tenant_id = ids.decode(Prefix.TENANT, request.tenant_id, "tenant_id")
        paths = validation.field_mask(request.update_mask, CHANGEABLE)
        given = request.tenant
        fields = checked(given)
        async with self._callers.of(current_identity().tenant_id).transaction() as connection:
            row = _found(await connection.fetchrow(_LOCK, tenant_id), request.tenant_id)
            if row["state"] == tenant_pb2.TENANT_STATE_DELETING:
                raise FailedPrecondition("the tenant is being deleted", "RESOURCE_DELETED")
            validation.check_etag(given.etag, row["version"])
            changed = await connection.fetchrow(
                _UPDATE,
                tenant_id,
                fields.display_name if "display_name" in paths else row["display_name"],
                fields.state if "state" in paths else row["state"],
                json.dumps(_merged(json.loads(row["settings"]), fields.settings, paths)),
            )
        return tenant_pb2.UpdateTenantResponse(tenant=self._shown(_found(changed, request.tenant_id)))

    async def delete(self, request: tenant_pb2.DeleteTenantRequest) -> tenant_pb2.DeleteTenantResponse:
        """Deletes its keys too. Refused while it has accounts, deleted but not yet purged ones included: with
        `force` all of that goes too, as a job.
        """
        if request.force:
            job = await self._deletions.start(request)
            self._deletions.wake()
            return tenant_pb2.DeleteTenantResponse(job=job_message(job))
        tenant_id = ids.decode(Prefix.TENANT, request.tenant_id, "tenant_id")
        async with self._callers.of(current_identity().tenant_id).transaction() as connection:
            row = _found(await connection.fetchrow(_LOCK, tenant_id), request.tenant_id)
            validation.check_etag(request.etag, row["version"])
            try:
                await delete_tenant(connection, tenant_id)
            except asyncpg.ForeignKeyViolationError:
                raise FailedPrecondition(
                    "the tenant still has accounts, media or endpoints", "RESOURCE_NOT_EMPTY"
                ) from None
        return tenant_pb2.DeleteTenantResponse()


def _merged(stored: dict[str, int], given: dict[str, int], paths: frozenset[str]) -> dict[str, int]:
    if "settings" in paths:
        return given
    merged = dict(stored)
    for path in paths.intersection(SETTINGS):
        name = path.removeprefix("settings.").replace("retention", "retention_seconds")
        merged.pop(name, None)
        if name in given:
            merged[name] = given[name]
    return merged


def _found(row: asyncpg.Record | None, name: str) -> asyncpg.Record:
    if row is None:
        raise NotFound("tenant", name)
    return row


_INSERT = """INSERT INTO tenant (id, external_id, display_name, state, settings)
  VALUES ($1, $2, $3, $4, $5) RETURNING *"""
_GET = "SELECT * FROM tenant WHERE id = $1"
_LOCK = "SELECT * FROM tenant WHERE id = $1 FOR UPDATE"
_LIST = """SELECT * FROM tenant
  WHERE ($1::uuid IS NULL OR id > $1) AND ($2::text IS NULL OR external_id = $2) ORDER BY id LIMIT $3"""
_UPDATE = """UPDATE tenant
  SET display_name = $2, state = $3, settings = $4, version = version + 1, update_time = now()
  WHERE id = $1 RETURNING *"""
