"""TenantService as gRPC serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from mesh_core.database import Database
from mesh_core.jobs import job_message
from mesh_core.paging import Pager
from mesh_core.rpc.server import taken_within
from mesh_core.rpc.server.parsing import parsed
from mesh_router.retention import Policy
from mesh_router.tenants.deletion import TenantDeletions
from mesh_router.tenants.keys import ApiKeys
from mesh_router.tenants.persons import READ_SECONDS, PersonErasures, PersonExports
from mesh_router.tenants.tenants import Tenants
from mesh_router.tenants.usage import TenantUsage
from sessionmesh.v1 import tenant_pb2, tenant_pb2_grpc


class TenantService(tenant_pb2_grpc.TenantServiceServicer):
    """Tenants and their API keys."""

    def __init__(
        self,
        database: Database,
        pager: Pager,
        policy: Policy,
        deletions: TenantDeletions,
        erasures: PersonErasures,
    ) -> None:
        self._tenants = Tenants(database, pager, policy, deletions)
        self._keys = ApiKeys(database, pager)
        self._erasures = erasures
        self._exports = PersonExports(database)
        self._usage = TenantUsage(database)

    async def CreateTenant(
        self, request: tenant_pb2.CreateTenantRequest, context: Any
    ) -> tenant_pb2.CreateTenantResponse:
        return await self._tenants.create(request)

    async def GetTenant(
        self, request: tenant_pb2.GetTenantRequest, context: Any
    ) -> tenant_pb2.GetTenantResponse:
        return await self._tenants.get(request)

    async def ListTenants(
        self, request: tenant_pb2.ListTenantsRequest, context: Any
    ) -> tenant_pb2.ListTenantsResponse:
        return await self._tenants.list(request)

    async def UpdateTenant(
        self, request: tenant_pb2.UpdateTenantRequest, context: Any
    ) -> tenant_pb2.UpdateTenantResponse:
        return await self._tenants.update(request)

    async def DeleteTenant(
        self, request: tenant_pb2.DeleteTenantRequest, context: Any
    ) -> tenant_pb2.DeleteTenantResponse:
        return await self._tenants.delete(request)

    async def GetTenantUsage(
        self, request: tenant_pb2.GetTenantUsageRequest, context: Any
    ) -> tenant_pb2.GetTenantUsageResponse:
        return await self._usage.get(request)

    @taken_within(READ_SECONDS)
    async def ExportPersonData(
        self, request: tenant_pb2.ExportPersonDataRequest, context: Any
    ) -> AsyncIterator[tenant_pb2.ExportPersonDataResponse]:
        async with aclosing(self._exports.frames(request)) as frames:
            async for frame in frames:
                yield frame

    async def ErasePersonData(
        self, request: tenant_pb2.ErasePersonDataRequest, context: Any
    ) -> tenant_pb2.ErasePersonDataResponse:
        job = await self._erasures.start(request)
        self._erasures.wake()
        return tenant_pb2.ErasePersonDataResponse(job=job_message(job))

    async def CreateApiKey(
        self, request: tenant_pb2.CreateApiKeyRequest, context: Any
    ) -> tenant_pb2.CreateApiKeyResponse:
        return await self._keys.create(request)

    async def list_api_keys(self, raw: bytes, context: Any) -> bytes:
        """ListApiKeys, from bytes to bytes."""
        return await self._keys.list(parsed(tenant_pb2.ListApiKeysRequest.FromString, raw))

    async def RotateApiKey(
        self, request: tenant_pb2.RotateApiKeyRequest, context: Any
    ) -> tenant_pb2.RotateApiKeyResponse:
        return await self._keys.rotate(request)

    async def RevokeApiKey(
        self, request: tenant_pb2.RevokeApiKeyRequest, context: Any
    ) -> tenant_pb2.RevokeApiKeyResponse:
        return await self._keys.revoke(request)
