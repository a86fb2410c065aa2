"""AuditService: who did what, over a real router and Postgres."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from grpc import StatusCode

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_core.rpc.audit.log import REFUSED_PER_MINUTE
from mesh_router.retention.ages import delete_audit_events
from sessionmesh.v1 import account_pb2, audit_pb2, audit_pb2_grpc, authorization_pb2, tenant_pb2
from tests.integration.test_router_tenants import create_account, create_key, create_tenant, unique
from tests.support.eventually import eventually
from tests.support.router_world import ADMIN, MESH_KEY, RouterWorld, bearer, failing

pytestmark = pytest.mark.asyncio(loop_scope="module")
SCOPES = [
    authorization_pb2.SCOPE_READ,
    authorization_pb2.SCOPE_MANAGE,
    authorization_pb2.SCOPE_TENANT_ADMIN,
]
CREATE_KEY = "/sessionmesh.v1.TenantService/CreateApiKey"
CREATE_TENANT = "/sessionmesh.v1.TenantService/CreateTenant"
CREATE_ACCOUNT = "/sessionmesh.v1.AccountService/CreateAccount"


class Tenant:
    """A tenant with one key, whose display name is "office"."""

    def __init__(self, world: RouterWorld, tenant_id: str, created: tenant_pb2.CreateApiKeyResponse) -> None:
        self.world, self.id = world, tenant_id
        self.key_id, self.key = created.api_key.id, created.secret

    async def events(self, metadata: Any = None, **filters: Any) -> list[audit_pb2.AuditEvent]:
        """What this tenant's key is shown."""
        request = audit_pb2.ListAuditEventsRequest(**filters)
        stub = self.world.stub(audit_pb2_grpc.AuditServiceStub)
        listed = await stub.ListAuditEvents(request, metadata=metadata or bearer(self.key))
        return list(listed.events)

    async def noted(self, method: str, count: int = 1, **filters: Any) -> list[audit_pb2.AuditEvent]:
        """Its events of a method, once there are so many."""

        async def enough() -> list[audit_pb2.AuditEvent] | None:
            events = await self.events(method=method, **filters)
            return events if len(events) >= count else None

        return await eventually(enough, what=f"{count} events of {method}")


@pytest_asyncio.fixture(loop_scope="module")
async def tenant(world: RouterWorld) -> Tenant:
    made = await create_tenant(world)
    return Tenant(world, made.id, await create_key(world, made.id, scopes=SCOPES, display_name="office"))


async def refused(call: Awaitable[Any], code: StatusCode) -> Any:
    """The failure of a call that must be refused so."""
    error = await failing(call)
    assert error.code is code
    return error


def stub(tenant: Tenant) -> Any:
    return tenant.world.stub(audit_pb2_grpc.AuditServiceStub)


@pytest.mark.read_back("ListAuditEvents")
async def test_a_call_that_changes_something_is_noted_with_who_made_it_and_what_it_was_about(
    tenant: Tenant,
) -> None:
    before = datetime.now(UTC)
    request_id = unique()
    created = await create_key(tenant.world, metadata=bearer(tenant.key), request_id=request_id)
    (event,) = await tenant.noted(CREATE_KEY, key_id=tenant.key_id)
    assert ids.decode(Prefix.AUDIT, event.id, "id")
    assert event.tenant_id == tenant.id
    assert (event.key_id, event.key_display_name) == (tenant.key_id, "office")
    assert event.resource == created.api_key.id
    assert event.request_id == request_id
    assert event.HasField("status")
    assert event.status.code == 0
    assert event.source_address == "127.0.0.1"
    assert "grpc-python-asyncio" in event.user_agent
    assert event.traceparent.startswith("00-")
    assert event.account_id == ""
    late = event.occur_time.ToDatetime(UTC) - before
    assert timedelta(milliseconds=-1) <= late < timedelta(minutes=2)


async def test_an_update_is_noted_with_its_account_and_the_fields_it_changed(tenant: Tenant) -> None:
    account_id = await create_account(tenant.world, tenant.key)
    request = account_pb2.UpdateAccountRequest(
        account_id=account_id,
        account=account_pb2.Account(display_name="x", labels={"a": "b"}),
        update_mask=FieldMask(paths=["display_name", "labels"]),
    )
    await tenant.world.accounts.UpdateAccount(request, metadata=bearer(tenant.key))
    (event,) = await tenant.noted("/sessionmesh.v1.AccountService/UpdateAccount")
    assert event.account_id == account_id
    assert list(event.changed_fields) == ["display_name", "labels"]
    (created,) = await tenant.noted(CREATE_ACCOUNT)
    assert (created.account_id, created.resource) == (account_id, account_id)


async def test_a_refused_call_is_noted_with_how_it_ended(tenant: Tenant) -> None:
    request = tenant_pb2.RevokeApiKeyRequest(key_id=ids.encode(Prefix.KEY, ids.new_uuid()))
    await refused(
        tenant.world.tenants.RevokeApiKey(request, metadata=bearer(tenant.key)), StatusCode.NOT_FOUND
    )
    (event,) = await tenant.noted("/sessionmesh.v1.TenantService/RevokeApiKey", failed_only=True)
    assert event.status.code == StatusCode.NOT_FOUND.value[0]
    assert event.status.message
    info = error_details_pb2.ErrorInfo()
    assert event.status.details[0].Unpack(info)
    assert info.domain == "sessionmesh"
    assert event.resource == request.key_id


async def test_a_call_without_the_scope_is_noted(tenant: Tenant) -> None:
    await refused(create_tenant_with(tenant, bearer(tenant.key)), StatusCode.PERMISSION_DENIED)
    (event,) = await tenant.noted(CREATE_TENANT, failed_only=True)
    assert event.status.code == StatusCode.PERMISSION_DENIED.value[0]


def create_tenant_with(tenant: Tenant, metadata: Any) -> Awaitable[Any]:
    request = tenant_pb2.CreateTenantRequest(request_id=unique(), tenant=tenant_pb2.Tenant())
    call: Awaitable[Any] = tenant.world.tenants.CreateTenant(request, metadata=metadata)
    return call


async def test_a_call_with_no_valid_key_is_noted_for_administrators_without_what_it_said(
    tenant: Tenant,
) -> None:
    method = CREATE_TENANT

    async def of_strangers() -> list[audit_pb2.AuditEvent]:
        events = await tenant.events(ADMIN, method=method, failed_only=True)
        return [event for event in events if not event.key_id]

    await refused(create_tenant_with(tenant, bearer("nobody's")), StatusCode.UNAUTHENTICATED)
    event = (await eventually(of_strangers))[0]
    assert event.status.code == StatusCode.UNAUTHENTICATED.value[0]
    assert (event.tenant_id, event.request_id, event.resource) == ("", "", "")
    assert event.source_address == "127.0.0.1"
    assert all(shown.tenant_id == tenant.id for shown in await tenant.events())


async def test_what_an_administrator_does_to_a_tenant_is_the_tenants(tenant: Tenant) -> None:
    await create_key(tenant.world, tenant.id)
    events = await tenant.noted(CREATE_KEY, 2)
    assert {event.key_id for event in events} == {"bootstrap"}
    assert {event.tenant_id for event in events} == {tenant.id}


async def test_reads_and_what_parts_of_the_mesh_do_are_not_noted(tenant: Tenant) -> None:
    await tenant.world.tenants.GetTenant(tenant_pb2.GetTenantRequest(), metadata=bearer(tenant.key))
    await create_key(tenant.world, tenant.id, metadata=(*bearer(MESH_KEY), ("x-mesh-tenant", tenant.id)))
    await create_account(tenant.world, tenant.key)  # noted after the two
    await tenant.noted(CREATE_ACCOUNT)
    events = await tenant.events()
    assert {event.method for event in events} == {CREATE_TENANT, CREATE_KEY, CREATE_ACCOUNT}
    assert [event.key_id for event in events if event.method == CREATE_KEY] == ["bootstrap"]


async def test_events_are_listed_newest_first_in_pages_with_filters(tenant: Tenant) -> None:
    accounts = [await create_account(tenant.world, tenant.key) for _ in range(3)]
    await tenant.noted(CREATE_ACCOUNT, 3)
    request = audit_pb2.ListAuditEventsRequest(page_size=2, method=CREATE_ACCOUNT)
    first = await stub(tenant).ListAuditEvents(request, metadata=bearer(tenant.key))
    request.page_token = first.next_page_token
    second = await stub(tenant).ListAuditEvents(request, metadata=bearer(tenant.key))
    listed = [event.account_id for event in (*first.events, *second.events)]
    assert listed == accounts[::-1]
    assert second.next_page_token == ""
    assert [each.account_id for each in await tenant.events(account_id=accounts[1])] == [accounts[1]]
    assert [each.resource for each in await tenant.events(resource=accounts[0])] == [accounts[0]]
    assert len(await tenant.events(key_id=tenant.key_id)) == 3
    assert await tenant.events(failed_only=True) == []
    newest = first.events[0].occur_time
    assert len(await tenant.events(start_time=newest, method=CREATE_ACCOUNT)) >= 1
    assert newest not in [event.occur_time for event in await tenant.events(end_time=newest)]


async def test_nobody_sees_another_tenants(tenant: Tenant) -> None:
    other = await create_tenant(tenant.world)
    request = audit_pb2.ListAuditEventsRequest(tenant_id=other.id)
    await refused(stub(tenant).ListAuditEvents(request, metadata=bearer(tenant.key)), StatusCode.NOT_FOUND)
    request = audit_pb2.ListAuditEventsRequest(resource=other.id)
    assert not (await stub(tenant).ListAuditEvents(request, metadata=bearer(tenant.key))).events


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tenant_id", "x"),
        ("page_size", 1001),
        ("page_token", "x"),
        ("account_id", "x"),
        ("key_id", "k" * 256),
        ("resource", "r" * 256),
        ("method", "CreateApiKey"),
    ],
)
async def test_a_wrong_field_is_named(world: RouterWorld, field: str, value: Any) -> None:
    request = audit_pb2.ListAuditEventsRequest(**{field: value})
    call = world.stub(audit_pb2_grpc.AuditServiceStub).ListAuditEvents(request, metadata=ADMIN)
    error = await refused(call, StatusCode.INVALID_ARGUMENT)
    assert error.field == field


async def test_a_time_that_ends_before_it_begins_is_refused(world: RouterWorld) -> None:
    request = audit_pb2.ListAuditEventsRequest(
        start_time=Timestamp(seconds=20), end_time=Timestamp(seconds=10)
    )
    call = world.stub(audit_pb2_grpc.AuditServiceStub).ListAuditEvents(request, metadata=ADMIN)
    error = await refused(call, StatusCode.INVALID_ARGUMENT)
    assert error.field == "end_time"


async def test_who_is_refused_over_and_over_is_noted_some_times_a_minute(tenant: Tenant) -> None:
    for _ in range(REFUSED_PER_MINUTE + 20):
        await refused(create_tenant_with(tenant, bearer(tenant.key)), StatusCode.PERMISSION_DENIED)
    await create_account(tenant.world, tenant.key)
    await tenant.noted(CREATE_ACCOUNT)
    noted = await tenant.events(failed_only=True, page_size=1000)
    assert REFUSED_PER_MINUTE <= len(noted) <= 2 * REFUSED_PER_MINUTE - 20  # a minute may end meanwhile


async def test_texts_that_no_column_takes_are_noted_as_far_as_they_go(tenant: Tenant) -> None:
    request = account_pb2.UpdateAccountRequest(
        account_id=ids.encode(Prefix.ACCOUNT, ids.new_uuid()),
        account=account_pb2.Account(),
        update_mask=FieldMask(paths=["a\0b\nc", "p" * 1000, *map(str, range(100))]),
    )
    call = tenant.world.accounts.UpdateAccount(request, metadata=bearer(tenant.key))
    with pytest.raises(grpc.aio.AioRpcError):
        await call
    (event,) = await tenant.noted("/sessionmesh.v1.AccountService/UpdateAccount")
    assert list(event.changed_fields[:3]) == ["ab c", "p" * 255, "0"]
    assert len(event.changed_fields) == 64


async def test_the_oldest_events_of_a_tenant_that_has_too_many_go(tenant: Tenant) -> None:
    accounts = [await create_account(tenant.world, tenant.key) for _ in range(4)]
    await tenant.noted(CREATE_ACCOUNT, 4)
    async with tenant.world.database.pool.acquire() as connection:
        assert await delete_audit_events(connection, 2) >= 2
    left = await tenant.events()
    assert [event.account_id for event in left] == accounts[:1:-1]


async def test_events_wait_while_the_database_is_away(tenant: Tenant) -> None:
    """A lock that no insert gets stands for it."""
    async with tenant.world.database.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE audit_event IN ACCESS EXCLUSIVE MODE")
        account_id = await create_account(tenant.world, tenant.key)
    (event,) = await tenant.noted(CREATE_ACCOUNT)
    assert event.account_id == account_id
