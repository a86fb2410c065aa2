"""TenantService over real Postgres."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from mesh_core import ids
from mesh_core.rpc.auth import Role
from mesh_router.tenants.keys import MAX_EARLIER_SECRETS
from sessionmesh.v1 import account_pb2, authorization_pb2, session_pb2, session_pb2_grpc, tenant_pb2
from sessionmesh.v1.tenant_pb2 import Tenant, TenantSettings
from tests.integration.test_router_proxy import Sessions
from tests.support.eventually import eventually
from tests.support.router_world import ADMIN, RouterWorld, bearer, failing

SCOPES = [authorization_pb2.SCOPE_READ, authorization_pb2.SCOPE_SEND, authorization_pb2.SCOPE_MANAGE]
OPERATOR = [authorization_pb2.SCOPE_OPERATOR]
pytestmark = pytest.mark.asyncio(loop_scope="module")


def unique() -> str:
    """A request id or external id that no other test uses."""
    return secrets.token_hex(8)


async def create_tenant(world: RouterWorld, request_id: str = "", **fields: Any) -> Tenant:
    request = tenant_pb2.CreateTenantRequest(request_id=request_id or unique(), tenant=Tenant(**fields))
    tenant: Tenant = (await world.tenants.CreateTenant(request, metadata=ADMIN)).tenant
    return tenant


async def create_key(
    world: RouterWorld, tenant_id: str = "", metadata: Any = ADMIN, request_id: str = "", **fields: Any
) -> tenant_pb2.CreateApiKeyResponse:
    fields = {"scopes": SCOPES} | fields
    request = tenant_pb2.CreateApiKeyRequest(request_id=request_id or unique(), tenant_id=tenant_id, **fields)
    created: tenant_pb2.CreateApiKeyResponse = await world.tenants.CreateApiKey(request, metadata=metadata)
    return created


async def update_tenant(world: RouterWorld, tenant_id: str, paths: list[str], **fields: Any) -> Tenant:
    request = tenant_pb2.UpdateTenantRequest(
        tenant_id=tenant_id, tenant=Tenant(**fields), update_mask=FieldMask(paths=paths)
    )
    tenant: Tenant = (await world.tenants.UpdateTenant(request, metadata=ADMIN)).tenant
    return tenant


async def create_account(world: RouterWorld, key: str) -> str:
    request = account_pb2.CreateAccountRequest(request_id=unique(), account=account_pb2.Account())
    return str((await world.accounts.CreateAccount(request, metadata=bearer(key))).account.id)


def own_tenant(world: RouterWorld, key: str) -> Any:
    return world.tenants.GetTenant(tenant_pb2.GetTenantRequest(), metadata=bearer(key))


@pytest.mark.read_back("CreateTenant", "GetTenant")
async def test_a_tenant_is_stored_as_it_was_given(world: RouterWorld) -> None:
    settings = TenantSettings(max_accounts=5, max_media_bytes=2**40, retention=Duration(seconds=86_400))
    created = await create_tenant(world, external_id=unique(), display_name="One", settings=settings)
    assert created.settings == settings
    assert created.state == tenant_pb2.TENANT_STATE_ACTIVE
    found = await world.tenants.GetTenant(tenant_pb2.GetTenantRequest(tenant_id=created.id), metadata=ADMIN)
    assert found.tenant == created


@pytest.mark.parametrize(("wish", "kept"), [(None, 7 * 86_400), (86_400, 86_400), (30 * 86_400, 7 * 86_400)])
async def test_a_tenant_says_how_long_its_data_are_kept_and_a_longer_wish_is_capped(
    world: RouterWorld, wish: int | None, kept: int
) -> None:
    settings = TenantSettings() if wish is None else TenantSettings(retention=Duration(seconds=wish))
    created = await create_tenant(world, settings=settings)
    assert created.effective_retention.seconds == kept
    assert created.settings == settings


async def test_repeats_of_creating_a_tenant(world: RouterWorld) -> None:
    same, name = unique(), unique()
    first = await create_tenant(world, same, external_id=name)
    assert await create_tenant(world, same, external_id=name) == first
    refused = await failing(create_tenant(world, same, external_id="two"))
    assert (refused.code, refused.reason) == (StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
    refused = await failing(create_tenant(world, external_id=name))
    assert (refused.reason, refused.resource) == ("RESOURCE_EXISTS", f"tenant {name}")


async def test_a_bad_field_is_named(world: RouterWorld) -> None:
    for call, field in (
        (create_tenant(world, external_id="x" * 129), "tenant.external_id"),
        (create_tenant(world, state=9), "tenant.state"),
        (create_tenant(world, state=tenant_pb2.TENANT_STATE_DELETING), "tenant.state"),
        (
            create_tenant(world, settings=TenantSettings(calls_per_second=0)),
            "tenant.settings.calls_per_second",
        ),
        (
            world.tenants.CreateTenant(tenant_pb2.CreateTenantRequest(request_id="1"), metadata=ADMIN),
            "tenant",
        ),
        (update_tenant(world, (await create_tenant(world)).id, ["state"], state=9), "tenant.state"),
    ):
        refused = await failing(call)
        assert (refused.code, refused.field) == (StatusCode.INVALID_ARGUMENT, field)


@pytest.mark.read_back("UpdateTenant")
async def test_single_settings_can_be_changed(world: RouterWorld) -> None:
    created = await create_tenant(world, settings=TenantSettings(max_accounts=5, max_endpoints=3))
    updated = await update_tenant(
        world, created.id, ["settings.max_accounts"], settings=TenantSettings(max_accounts=0)
    )
    assert updated.settings == TenantSettings(max_accounts=0, max_endpoints=3)
    updated = await update_tenant(world, created.id, ["settings.max_endpoints"])
    assert updated.settings == TenantSettings(max_accounts=0)
    updated = await update_tenant(world, created.id, ["settings"])
    assert updated.settings == TenantSettings()
    stale = failing(update_tenant(world, created.id, ["display_name"], etag=created.etag))
    assert (await stale).reason == "ETAG_MISMATCH"


@pytest.mark.read_back("ListTenants")
async def test_tenants_are_listed_in_pages(world: RouterWorld) -> None:
    made = [await create_tenant(world, external_id=unique()) for _ in range(3)]
    created = [tenant.id for tenant in made]

    async def page(**fields: Any) -> Any:
        return await world.tenants.ListTenants(tenant_pb2.ListTenantsRequest(**fields), metadata=ADMIN)

    listed, token = [], ""
    while True:  # those of other tests come first: the oldest do
        one = await page(page_size=2, page_token=token)
        assert len(one.tenants) <= 2
        listed += [tenant.id for tenant in one.tenants]
        token = one.next_page_token
        if not token:
            break
    assert listed[-3:] == created
    assert len(set(listed)) == len(listed)
    found = await page(external_id=made[1].external_id)
    assert [tenant.id for tenant in found.tenants] == [created[1]]


async def test_a_tenant_with_accounts_cannot_be_deleted(world: RouterWorld) -> None:
    created = await create_tenant(world)
    key = (await create_key(world, created.id)).secret
    await create_account(world, key)
    request = tenant_pb2.DeleteTenantRequest(tenant_id=created.id)
    refused = await failing(world.tenants.DeleteTenant(request, metadata=ADMIN))
    assert (refused.code, refused.reason) == (StatusCode.FAILED_PRECONDITION, "RESOURCE_NOT_EMPTY")
    assert (await own_tenant(world, key)).tenant.id == created.id


@pytest.mark.read_back("DeleteTenant")
async def test_a_deleted_tenant_is_gone_with_its_keys(world: RouterWorld) -> None:
    created = await create_tenant(world)
    key = (await create_key(world, created.id)).secret
    request = tenant_pb2.DeleteTenantRequest(tenant_id=created.id)
    await world.tenants.DeleteTenant(request, metadata=ADMIN)
    assert (await failing(world.tenants.DeleteTenant(request, metadata=ADMIN))).code is StatusCode.NOT_FOUND
    assert (await failing(own_tenant(world, key))).code is StatusCode.UNAUTHENTICATED


@pytest.mark.read_back("CreateApiKey")
async def test_a_key_works_and_is_stored_hashed(world: RouterWorld) -> None:
    created = await create_tenant(world)
    answer = await create_key(world, created.id, display_name="backend")
    assert (await own_tenant(world, answer.secret)).tenant == created
    key_id = ids.decode(ids.Prefix.KEY, answer.api_key.id, "id")
    row = await world.database.pool.fetchrow("SELECT * FROM api_key WHERE id = $1", key_id)
    assert row is not None
    assert answer.secret not in str(dict(row))
    assert list(answer.api_key.scopes) == SCOPES


async def test_a_repeat_of_creating_a_key_returns_it_without_its_secret(world: RouterWorld) -> None:
    created = await create_tenant(world)
    first = await create_key(world, created.id, request_id="same")
    again = await create_key(world, created.id, request_id="same")
    assert again.api_key == first.api_key
    assert first.secret
    assert not again.secret


async def test_a_repeat_returns_a_key_that_has_expired_since(world: RouterWorld) -> None:
    created, soon = await create_tenant(world), Timestamp()
    soon.FromNanoseconds(time.time_ns() + 1_500_000_000)
    first = await create_key(world, created.id, request_id="same", expire_time=soon)
    await eventually(lambda: time.time_ns() > soon.ToNanoseconds())
    again = await create_key(world, created.id, request_id="same", expire_time=soon)
    assert again.api_key == first.api_key
    refused = await failing(create_key(world, created.id, request_id="other", expire_time=soon))
    assert (refused.code, refused.field) == (StatusCode.INVALID_ARGUMENT, "expire_time")


async def test_a_tenants_key_sees_its_own_tenant_only(world: RouterWorld) -> None:
    mine = await create_tenant(world)
    other = await create_tenant(world)
    admin_scope = [authorization_pb2.SCOPE_TENANT_ADMIN, authorization_pb2.SCOPE_READ]
    metadata = bearer((await create_key(world, mine.id, scopes=admin_scope)).secret)
    foreign_key = (await create_key(world, other.id)).api_key.id
    stub = world.tenants
    for call in (
        stub.GetTenant(tenant_pb2.GetTenantRequest(tenant_id=other.id), metadata=metadata),
        stub.ListApiKeys(tenant_pb2.ListApiKeysRequest(tenant_id=other.id), metadata=metadata),
        create_key(world, other.id, metadata),
        stub.RevokeApiKey(tenant_pb2.RevokeApiKeyRequest(key_id=foreign_key), metadata=metadata),
        stub.RotateApiKey(
            tenant_pb2.RotateApiKeyRequest(request_id="1", key_id=foreign_key), metadata=metadata
        ),
    ):
        assert (await failing(call)).code is StatusCode.NOT_FOUND
    for call in (
        stub.ListTenants(tenant_pb2.ListTenantsRequest(), metadata=metadata),
        create_key(world, "", metadata, scopes=OPERATOR),
    ):
        assert (await failing(call)).reason == "SCOPE_MISSING"


async def test_a_key_without_the_scope_cannot_administer(world: RouterWorld) -> None:
    created = await create_tenant(world)
    metadata = bearer((await create_key(world, created.id)).secret)
    refused = await failing(create_key(world, "", metadata))
    assert (refused.code, refused.reason) == (StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")


@pytest.mark.read_back("ListApiKeys")
async def test_keys_are_listed_without_secrets(world: RouterWorld) -> None:
    created = await create_tenant(world)
    mine = [(await create_key(world, created.id)).api_key.id for _ in range(3)]
    admin = (await create_key(world, scopes=OPERATOR)).api_key.id

    async def page(**fields: Any) -> Any:
        return await world.tenants.ListApiKeys(tenant_pb2.ListApiKeysRequest(**fields), metadata=ADMIN)

    first = await page(tenant_id=created.id, page_size=2)
    rest = await page(tenant_id=created.id, page_size=2, page_token=first.next_page_token)
    assert [key.id for key in (*first.api_keys, *rest.api_keys)] == mine
    administrators = [key.id for key in (await page(page_size=1000)).api_keys]
    assert admin in administrators
    assert not {*mine}.intersection(administrators)


async def test_an_administrators_key_administers(world: RouterWorld) -> None:
    made = await create_key(world, scopes=OPERATOR)
    await world.tenants.ListTenants(tenant_pb2.ListTenantsRequest(), metadata=bearer(made.secret))
    key_id = ids.decode(ids.Prefix.KEY, made.api_key.id, "id")
    stored = await world.database.pool.fetchval("SELECT role FROM api_key WHERE id = $1", key_id)
    assert stored == Role.ADMIN


@pytest.mark.read_back("RotateApiKey")
async def test_both_secrets_work_during_the_overlap(world: RouterWorld) -> None:
    created = await create_tenant(world)
    old = await create_key(world, created.id)
    await own_tenant(world, old.secret)
    request = tenant_pb2.RotateApiKeyRequest(request_id="1", key_id=old.api_key.id)
    new = await world.tenants.RotateApiKey(request, metadata=ADMIN)
    assert new.secret != old.secret
    assert (await own_tenant(world, new.secret)).tenant == created
    assert (await own_tenant(world, old.secret)).tenant == created
    again = await world.tenants.RotateApiKey(request, metadata=ADMIN)
    assert (again.api_key.id, again.secret) == (old.api_key.id, "")
    assert (await own_tenant(world, new.secret)).tenant == created


async def test_without_overlap_the_old_secret_ends(world: RouterWorld) -> None:
    created = await create_tenant(world)
    old = await create_key(world, created.id)
    request = tenant_pb2.RotateApiKeyRequest(request_id="1", key_id=old.api_key.id, overlap=Duration())
    new = await world.tenants.RotateApiKey(request, metadata=ADMIN)
    assert (await own_tenant(world, new.secret)).tenant == created
    assert (await failing(own_tenant(world, old.secret))).reason == "CREDENTIALS_INVALID"


async def rotate(world: RouterWorld, key_id: str, **fields: Any) -> str:
    request = tenant_pb2.RotateApiKeyRequest(request_id=unique(), key_id=key_id, **fields)
    return str((await world.tenants.RotateApiKey(request, metadata=ADMIN)).secret)


async def test_each_secret_works_to_the_end_that_it_was_promised_whatever_is_rotated_after_it(
    world: RouterWorld,
) -> None:
    created = await create_tenant(world)
    key = await create_key(world, created.id)
    second = await rotate(world, key.api_key.id)
    third = await rotate(world, key.api_key.id, overlap=Duration())
    assert (await own_tenant(world, third)).tenant == created
    assert (await own_tenant(world, key.secret)).tenant == created, "its overlap is a day"
    assert (await failing(own_tenant(world, second))).reason == "CREDENTIALS_INVALID", "it had no overlap"


async def test_a_rotation_that_would_leave_too_many_secrets_is_refused_and_one_without_overlap_is_not(
    world: RouterWorld,
) -> None:
    created = await create_tenant(world)
    key = await create_key(world, created.id)
    overlap = Duration(seconds=3600)
    rotated = [await rotate(world, key.api_key.id, overlap=overlap) for _ in range(MAX_EARLIER_SECRETS)]
    valid = [key.secret, *rotated]
    refused = await failing(rotate(world, key.api_key.id))
    assert (refused.code, refused.reason) == (StatusCode.FAILED_PRECONDITION, "TOO_MANY_SECRETS")
    for secret in valid:
        assert (await own_tenant(world, secret)).tenant == created
    valid[-1] = await rotate(world, key.api_key.id, overlap=Duration())
    for secret in valid:
        assert (await own_tenant(world, secret)).tenant == created


@pytest.mark.read_back("RevokeApiKey")
async def test_a_revoked_key_is_refused(world: RouterWorld) -> None:
    created = await create_tenant(world)
    key = await create_key(world, created.id)
    request = tenant_pb2.RevokeApiKeyRequest(key_id=key.api_key.id)
    revoked = await world.tenants.RevokeApiKey(request, metadata=ADMIN)
    assert revoked.api_key.HasField("revoke_time")
    assert await world.tenants.RevokeApiKey(request, metadata=ADMIN) == revoked
    refused = await failing(own_tenant(world, key.secret))
    assert (refused.code, refused.reason) == (StatusCode.UNAUTHENTICATED, "CREDENTIALS_INVALID")
    rotate = tenant_pb2.RotateApiKeyRequest(request_id="1", key_id=key.api_key.id)
    assert (await failing(world.tenants.RotateApiKey(rotate, metadata=ADMIN))).reason == "RESOURCE_DELETED"


@pytest.mark.parametrize(
    ("ends", "reason"), [("revoked", "CREDENTIALS_INVALID"), ("suspended", "TENANT_SUSPENDED")]
)
async def test_a_relayed_stream_ends_with_its_key_at_the_caller_and_at_the_node(
    world: RouterWorld, monkeypatch: pytest.MonkeyPatch, ends: str, reason: str
) -> None:
    monkeypatch.setattr("mesh_core.rpc.server.open_streams.JUDGE_SECONDS", 0.05)
    monkeypatch.setattr("mesh_core.rpc.auth.authenticator.FRESH_SECONDS", 0.0)
    ended = asyncio.Event()

    async def watch(_request: Any, _context: Any) -> AsyncIterator[Any]:
        try:
            yield session_pb2.WatchSessionResponse()
            await asyncio.Event().wait()
        finally:
            ended.set()

    created = await create_tenant(world)
    key = await create_key(world, created.id)
    account = ids.new_id(ids.Prefix.ACCOUNT)
    node = await world.node("n1", {session_pb2_grpc.add_SessionServiceServicer_to_server: Sessions(watch)})
    await node.own(account)
    stub: Any = session_pb2_grpc.SessionServiceStub(world.channel)
    request = session_pb2.WatchSessionRequest(account_id=account)
    call = stub.WatchSession(request, metadata=bearer(key.secret), timeout=30)
    await call.read()
    if ends == "revoked":
        revoke = tenant_pb2.RevokeApiKeyRequest(key_id=key.api_key.id)
        await world.tenants.RevokeApiKey(revoke, metadata=ADMIN)
    else:
        await update_tenant(world, created.id, ["state"], state=tenant_pb2.TENANT_STATE_SUSPENDED)
    assert (await failing(call.read())).reason == reason
    async with asyncio.timeout(10):
        await ended.wait()


async def test_a_suspended_tenants_key_is_refused(world: RouterWorld) -> None:
    created = await create_tenant(world)
    key = (await create_key(world, created.id)).secret
    await update_tenant(world, created.id, ["state"], state=tenant_pb2.TENANT_STATE_SUSPENDED)
    refused = await failing(own_tenant(world, key))
    assert (refused.code, refused.reason) == (StatusCode.PERMISSION_DENIED, "TENANT_SUSPENDED")


async def test_a_bad_field_of_a_key_is_named(world: RouterWorld) -> None:
    created = await create_tenant(world)
    for call, field in (
        (create_key(world, created.id, scopes=[]), "scopes"),
        (create_key(world, created.id, scopes=[0]), "scopes[0]"),
        (create_key(world, created.id, scopes=[*SCOPES, 99]), "scopes[3]"),
        (create_key(world, created.id, scopes=[*SCOPES, *OPERATOR]), "scopes"),
        (create_key(world, created.id, scopes=OPERATOR), "tenant_id"),
        (create_key(world, created.id, account_ids=["acc_1"]), "account_ids[0]"),
    ):
        refused = await failing(call)
        assert (refused.code, refused.field) == (StatusCode.INVALID_ARGUMENT, field)


async def test_a_key_is_limited_to_accounts_of_its_tenant(world: RouterWorld) -> None:
    mine, other = await create_tenant(world), await create_tenant(world)
    key = (await create_key(world, mine.id)).secret
    first, second = await create_account(world, key), await create_account(world, key)
    foreign = await create_account(world, (await create_key(world, other.id)).secret)
    limited = await create_key(world, mine.id, account_ids=[second, first, first])
    assert list(limited.api_key.account_ids) == sorted([first, second])
    request = tenant_pb2.ListApiKeysRequest(tenant_id=mine.id)
    listed = (await world.tenants.ListApiKeys(request, metadata=ADMIN)).api_keys
    assert [list(one.account_ids) for one in listed] == [[], sorted([first, second])]
    for stranger in (foreign, ids.new_id(ids.Prefix.ACCOUNT)):
        refused = await failing(create_key(world, mine.id, account_ids=[first, stranger]))
        assert (refused.code, refused.resource) == (StatusCode.NOT_FOUND, f"account {stranger}")


async def test_a_key_that_administers_cannot_be_limited_to_accounts(world: RouterWorld) -> None:
    tenant = await create_tenant(world)
    account = await create_account(world, (await create_key(world, tenant.id)).secret)
    for tenant_id, scope in ((tenant.id, authorization_pb2.SCOPE_TENANT_ADMIN), ("", OPERATOR[0])):
        refused = await failing(create_key(world, tenant_id, scopes=[scope], account_ids=[account]))
        assert (refused.code, refused.field) == (StatusCode.INVALID_ARGUMENT, "account_ids")


async def test_a_key_for_an_unknown_tenant_is_refused(world: RouterWorld) -> None:
    unknown = ids.new_id(ids.Prefix.TENANT)
    assert (await failing(create_key(world, unknown))).resource == f"tenant {unknown}"
    assert (await failing(create_key(world))).field == "tenant_id"


async def test_a_call_without_a_key_is_refused(world: RouterWorld) -> None:
    refused = await failing(world.tenants.GetTenant(tenant_pb2.GetTenantRequest()))
    assert (refused.code, refused.reason) == (StatusCode.UNAUTHENTICATED, "CREDENTIALS_MISSING")


async def test_concurrent_repeats_make_one_tenant(world: RouterWorld) -> None:
    same, name = unique(), unique()
    created = await asyncio.gather(*[create_tenant(world, same, external_id=name) for _ in range(6)])
    assert len({tenant.id for tenant in created}) == 1
