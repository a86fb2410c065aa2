"""AccountService over real Postgres."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.field_mask_pb2 import FieldMask
from grpc import StatusCode

from mesh_core import ids
from mesh_core.database import callers
from mesh_core.database.requests import RecordKind
from mesh_core.ids import Prefix
from sessionmesh.internal.v1 import node_pb2, node_pb2_grpc
from sessionmesh.v1 import account_pb2, authorization_pb2, event_pb2, tenant_pb2
from sessionmesh.v1.account_pb2 import Account
from tests.support.eventually import eventually
from tests.support.router_world import ADMIN, RouterWorld, bearer, failing, new_account

pytestmark = pytest.mark.asyncio(loop_scope="module")

_SCOPES = (
    authorization_pb2.SCOPE_READ,
    authorization_pb2.SCOPE_MANAGE,
    authorization_pb2.SCOPE_TENANT_ADMIN,
)
_LIMITED = _SCOPES[:2]


class Caller:
    """A tenant with a key, who calls AccountService."""

    def __init__(self, world: RouterWorld, tenant_id: str, key: str) -> None:
        self.tenant_id = tenant_id
        self.metadata = bearer(key)
        self._stub = world.accounts
        self._requests = 0

    async def create(self, request_id: str = "", **fields: Any) -> Account:
        self._requests += 1
        request = account_pb2.CreateAccountRequest(
            request_id=request_id or f"create-{self._requests}", account=Account(**fields)
        )
        return await self._answered(self._stub.CreateAccount(request, metadata=self.metadata))

    async def get(self, account_id: str) -> Account:
        request = account_pb2.GetAccountRequest(account_id=account_id)
        return await self._answered(self._stub.GetAccount(request, metadata=self.metadata))

    async def find(self, external_id: str, **fields: Any) -> Account:
        request = account_pb2.GetAccountRequest(external_id=external_id, **fields)
        return await self._answered(self._stub.GetAccount(request, metadata=self.metadata))

    async def page(self, **filters: Any) -> Any:
        return await self._stub.ListAccounts(
            account_pb2.ListAccountsRequest(**filters), metadata=self.metadata
        )

    async def update(self, account_id: str, paths: list[str], **fields: Any) -> Account:
        request = account_pb2.UpdateAccountRequest(
            account_id=account_id, account=Account(**fields), update_mask=FieldMask(paths=paths)
        )
        return await self._answered(self._stub.UpdateAccount(request, metadata=self.metadata))

    async def delete(self, account_id: str, etag: str = "") -> Account:
        request = account_pb2.DeleteAccountRequest(account_id=account_id, etag=etag)
        return await self._answered(self._stub.DeleteAccount(request, metadata=self.metadata))

    async def undelete(self, account_id: str) -> Account:
        request = account_pb2.UndeleteAccountRequest(account_id=account_id)
        return await self._answered(self._stub.UndeleteAccount(request, metadata=self.metadata))

    async def _answered(self, call: Any) -> Account:
        account: Account = (await call).account
        return account


@pytest_asyncio.fixture(loop_scope="module")
async def caller(world: RouterWorld) -> Caller:
    return await new_caller(world)


async def new_caller(world: RouterWorld, **settings: Any) -> Caller:
    created = await world.tenants.CreateTenant(
        tenant_pb2.CreateTenantRequest(
            request_id=new_account(),
            tenant=tenant_pb2.Tenant(settings=tenant_pb2.TenantSettings(**settings)),
        ),
        metadata=ADMIN,
    )
    return Caller(world, created.tenant.id, await new_key(world, created.tenant.id))


async def new_key(world: RouterWorld, tenant_id: str, **fields: Any) -> str:
    """A key of the tenant that may do everything with accounts."""
    request = tenant_pb2.CreateApiKeyRequest(
        request_id=new_account(), tenant_id=tenant_id, **{"scopes": _SCOPES} | fields
    )
    secret: str = (await world.tenants.CreateApiKey(request, metadata=ADMIN)).secret
    return secret


@pytest.mark.read_back("CreateAccount", "GetAccount")
async def test_an_account_is_stored_as_it_was_given(caller: Caller) -> None:
    created = await caller.create(
        external_id="one",
        display_name="Support",
        phone="+4915112345678",
        labels={"team": "a"},
        driver=account_pb2.DRIVER_WHATSAPP_CLOUD,
        desired_state=account_pb2.DESIRED_STATE_PAUSED,
        send_limits=account_pb2.SendLimits(per_minute=5, per_day=0, outbox=7),
    )
    assert created.id.startswith("acc_")
    assert created.tenant_id == caller.tenant_id
    assert created.labels == {"team": "a"}
    assert created.send_limits == account_pb2.SendLimits(per_minute=5, per_day=0, outbox=7)
    assert created.driver == account_pb2.DRIVER_WHATSAPP_CLOUD
    assert await caller.get(created.id) == created


async def test_defaults_are_online_on_the_simulated_network(caller: Caller) -> None:
    created = await caller.create()
    assert created.driver == account_pb2.DRIVER_SIMULATED
    assert created.desired_state == account_pb2.DESIRED_STATE_ONLINE


async def test_the_row_has_the_shard_of_the_public_id(world: RouterWorld, caller: Caller) -> None:
    created = await caller.create()
    uuid = ids.decode(ids.Prefix.ACCOUNT, created.id, "id")
    stored = await world.database.pool.fetchval("SELECT shard FROM account WHERE id = $1", uuid)
    assert stored == ids.shard_of(created.id)


async def test_a_repeated_request_returns_the_first_account(caller: Caller) -> None:
    first = await caller.create("same", display_name="x")
    assert await caller.create("same", display_name="x") == first
    assert len((await caller.page()).accounts) == 1


async def test_concurrent_repeats_create_one_account(caller: Caller) -> None:
    created = await asyncio.gather(*[caller.create("same", external_id="one") for _ in range(8)])
    assert len({account.id for account in created}) == 1


async def test_a_request_id_with_another_payload_is_refused(caller: Caller) -> None:
    await caller.create("same", display_name="x")
    refused = await failing(caller.create("same", display_name="y"))
    assert (refused.code, refused.reason) == (StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_an_external_id_is_unique_in_its_tenant_only(world: RouterWorld, caller: Caller) -> None:
    await caller.create(external_id="one")
    refused = await failing(caller.create(external_id="one"))
    assert (refused.code, refused.reason) == (StatusCode.ALREADY_EXISTS, "RESOURCE_EXISTS")
    assert refused.resource == "account one"
    await (await new_caller(world)).create(external_id="one")


async def test_a_bad_field_is_named(caller: Caller) -> None:
    account = await caller.create()
    for call in (
        caller.create(phone="0151 1234"),
        caller.update(account.id, ["phone"], phone="0151 1234"),
    ):
        refused = await failing(call)
        assert (refused.code, refused.reason, refused.field) == (
            StatusCode.INVALID_ARGUMENT,
            "INVALID_FIELD",
            "account.phone",
        )


async def test_a_tenant_gives_its_accounts_no_limits_above_the_ceiling_and_an_operator_does(
    world: RouterWorld, caller: Caller
) -> None:
    account, high = await caller.create(), account_pb2.SendLimits(outbox=100_001)
    for call in (
        caller.create(send_limits=high),
        caller.update(account.id, ["send_limits"], send_limits=high),
    ):
        refused = await failing(call)
        assert (refused.code, refused.field) == (
            StatusCode.INVALID_ARGUMENT,
            "account.send_limits.outbox",
        )
    request = account_pb2.UpdateAccountRequest(
        account_id=account.id, account=Account(send_limits=high), update_mask=FieldMask(paths=["send_limits"])
    )
    updated = (await world.accounts.UpdateAccount(request, metadata=ADMIN)).account
    assert updated.send_limits == high
    # What the operator gave stays, whatever else the tenant changes
    renamed = await caller.update(account.id, ["display_name"], display_name="x", send_limits=high)
    assert renamed.send_limits == high


async def test_numbers_that_the_enums_do_not_have_are_named(caller: Caller) -> None:
    for call, field in (
        (caller.create(driver=99), "account.driver"),
        (caller.create(desired_state=7), "account.desired_state"),
        (caller.page(driver=99), "driver"),
    ):
        refused = await failing(call)
        assert (refused.code, refused.field) == (StatusCode.INVALID_ARGUMENT, field)


async def test_a_bad_request_id_is_named(caller: Caller) -> None:
    assert (await failing(caller.create(request_id="x" * 65))).field == "request_id"


async def test_a_request_id_is_required(world: RouterWorld, caller: Caller) -> None:
    request = account_pb2.CreateAccountRequest()
    refused = await failing(world.accounts.CreateAccount(request, metadata=caller.metadata))
    assert refused.field == "request_id"


async def test_the_tenants_quota_is_kept_also_by_concurrent_calls(world: RouterWorld) -> None:
    caller = await new_caller(world, max_accounts=3)
    results = await asyncio.gather(*[caller.create() for _ in range(6)], return_exceptions=True)
    refused = [result for result in results if isinstance(result, BaseException)]
    assert len(refused) == 3
    last = await failing(caller.create())
    assert (last.code, last.reason, last.quota) == (
        StatusCode.RESOURCE_EXHAUSTED,
        "QUOTA_EXCEEDED",
        "max_accounts",
    )


async def test_a_quota_of_zero_lets_no_account_in(world: RouterWorld) -> None:
    refused = await failing((await new_caller(world, max_accounts=0)).create())
    assert (refused.code, refused.quota) == (StatusCode.RESOURCE_EXHAUSTED, "max_accounts")


async def test_another_tenants_account_does_not_exist(world: RouterWorld, caller: Caller) -> None:
    foreign = (await (await new_caller(world)).create()).id
    for call in (
        caller.get(foreign),
        caller.update(foreign, ["display_name"], display_name="x"),
        caller.delete(foreign),
        caller.undelete(foreign),
    ):
        refused = await failing(call)
        assert (refused.code, refused.reason) == (StatusCode.NOT_FOUND, "RESOURCE_NOT_FOUND")
        assert refused.resource == f"account {foreign}"
    assert not (await caller.page()).accounts
    assert (await failing(caller.page(tenant_id=ids.new_id(ids.Prefix.TENANT)))).code is StatusCode.NOT_FOUND


async def test_an_administrator_names_the_tenant_and_sees_all(world: RouterWorld, caller: Caller) -> None:
    request = account_pb2.CreateAccountRequest(request_id="1")
    refused = await failing(world.accounts.CreateAccount(request, metadata=ADMIN))
    assert refused.field == "tenant_id"
    request.tenant_id = caller.tenant_id
    created = (await world.accounts.CreateAccount(request, metadata=ADMIN)).account
    assert await caller.get(created.id) == created
    foreign = await (await new_caller(world)).create(labels={"test": created.id})
    mine = await caller.create(labels={"test": created.id})
    listing = account_pb2.ListAccountsRequest(labels={"test": created.id})
    everyone = await world.accounts.ListAccounts(listing, metadata=ADMIN)
    assert list(everyone.accounts) == [foreign, mine]


async def test_pages_go_through_all_accounts_oldest_first(caller: Caller) -> None:
    created = [(await caller.create()).id for _ in range(5)]
    seen, token, pages = [], "", 0
    while True:
        page = await caller.page(page_size=2, page_token=token)
        seen += [account.id for account in page.accounts]
        pages += 1
        token = page.next_page_token
        if not token:
            break
    assert seen == created
    assert pages == 3


async def test_a_page_token_is_bound_to_its_filters(world: RouterWorld, caller: Caller) -> None:
    for _ in range(2):
        await caller.create()
    token = (await caller.page(page_size=1)).next_page_token
    for call in (
        caller.page(page_size=1, page_token=token, show_deleted=True),
        (await new_caller(world)).page(page_size=1, page_token=token),
    ):
        refused = await failing(call)
        assert (refused.code, refused.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")


@pytest.mark.read_back("ListAccounts")
async def test_listings_filter_by_labels_driver_and_deletion(caller: Caller) -> None:
    plain = await caller.create(labels={"a": "1", "b": "2"})
    other = await caller.create(labels={"a": "2"}, driver=account_pb2.DRIVER_WHATSAPP_WEB)
    gone = await caller.create()
    await caller.delete(gone.id)

    async def ids_of(**filters: Any) -> set[str]:
        return {account.id for account in (await caller.page(**filters)).accounts}

    assert await ids_of() == {plain.id, other.id}
    assert await ids_of(labels={"a": "1"}) == {plain.id}
    assert await ids_of(driver=account_pb2.DRIVER_WHATSAPP_WEB) == {other.id}
    assert await ids_of(show_deleted=True) == {plain.id, other.id, gone.id}


@pytest.mark.read_back("UpdateAccount")
async def test_an_update_changes_what_the_mask_names_only(caller: Caller) -> None:
    created = await caller.create(display_name="old", phone="+4915112345678", labels={"a": "1"})
    updated = await caller.update(created.id, ["display_name", "labels"], display_name="new")
    assert (updated.display_name, updated.phone, dict(updated.labels)) == ("new", "+4915112345678", {})
    assert updated.etag != created.etag
    assert await caller.get(created.id) == updated


async def test_an_update_with_an_old_etag_is_refused(caller: Caller) -> None:
    created = await caller.create()
    await caller.update(created.id, ["display_name"], display_name="x", etag=created.etag)
    refused = await failing(caller.update(created.id, ["display_name"], display_name="y", etag=created.etag))
    assert (refused.code, refused.reason) == (StatusCode.ABORTED, "ETAG_MISMATCH")


async def test_whoever_says_whether_an_account_is_online_ends_the_pause_of_a_restore(
    caller: Caller, world: RouterWorld
) -> None:
    created = await caller.create(desired_state=account_pb2.DESIRED_STATE_PAUSED)
    account = ids.decode(Prefix.ACCOUNT, created.id, "id")
    await world.database.pool.execute(
        "INSERT INTO account_record (account, kind, key, value, time) VALUES ($1, $2, 'restored', '', now())",
        account,
        RecordKind.RESTORED,
    )

    async def held() -> bool:
        found = "SELECT EXISTS (SELECT FROM account_record WHERE account = $1)"
        return bool(await world.database.pool.fetchval(found, account))

    await caller.update(created.id, ["display_name"], display_name="x")
    assert await held(), "a release is still to bring it online"
    await caller.update(created.id, ["desired_state"], desired_state=account_pb2.DESIRED_STATE_PAUSED)
    assert not await held(), "its owner paused it, and a release must not bring it online"


async def test_a_mask_must_name_what_can_be_changed(caller: Caller) -> None:
    created = await caller.create()
    refused = await failing(caller.update(created.id, ["external_id"], external_id="x"))
    assert (refused.code, refused.field) == (StatusCode.INVALID_ARGUMENT, "update_mask")


@pytest.mark.read_back("DeleteAccount", "UndeleteAccount")
async def test_a_deleted_account_can_be_read_and_brought_back(caller: Caller) -> None:
    created = await caller.create(external_id="one")
    deleted = await caller.delete(created.id, created.etag)
    assert deleted.purge_time.seconds - deleted.delete_time.seconds == 30 * 86_400
    assert await caller.get(created.id) == deleted
    assert await caller.delete(created.id) == deleted
    refused = await failing(caller.update(created.id, ["display_name"], display_name="x"))
    assert (refused.code, refused.reason) == (StatusCode.FAILED_PRECONDITION, "RESOURCE_DELETED")
    restored = await caller.undelete(created.id)
    assert not restored.HasField("delete_time")
    assert await caller.undelete(created.id) == restored


async def test_an_external_id_is_free_again_after_deletion(caller: Caller) -> None:
    first = await caller.create(external_id="one")
    await caller.delete(first.id)
    await caller.create(external_id="one")
    refused = await failing(caller.undelete(first.id))
    assert (refused.code, refused.reason) == (StatusCode.ALREADY_EXISTS, "RESOURCE_EXISTS")


async def test_a_purged_account_does_not_exist(world: RouterWorld, caller: Caller) -> None:
    created = await caller.create()
    await caller.delete(created.id)
    uuid = ids.decode(ids.Prefix.ACCOUNT, created.id, "id")
    await world.database.pool.execute("UPDATE account SET expire_time = now() WHERE id = $1", uuid)
    assert (await failing(caller.get(created.id))).code is StatusCode.NOT_FOUND
    assert not (await caller.page(show_deleted=True)).accounts


async def test_every_change_is_an_event_in_order(world: RouterWorld, caller: Caller) -> None:
    created = await caller.create(labels={"a": "1"})
    await caller.update(created.id, ["display_name"], display_name="x")
    deleted = await caller.delete(created.id)
    uuid = ids.decode(ids.Prefix.ACCOUNT, created.id, "id")
    rows = await world.database.pool.fetch("SELECT * FROM event WHERE account = $1 ORDER BY xid, seq", uuid)
    assert [row["type"] for row in rows] == ["account.created", "account.updated", "account.deleted"]
    last = event_pb2.Event.FromString(rows[-1]["body"])
    assert last.account.account == deleted
    assert (last.tenant_id, last.account_id, dict(last.labels)) == (caller.tenant_id, created.id, {"a": "1"})


async def test_the_owner_is_told_of_a_change(world: RouterWorld, caller: Caller) -> None:
    told: list[str] = []

    class Refreshed(node_pb2_grpc.NodeServiceServicer):
        async def RefreshAccounts(
            self, request: node_pb2.RefreshAccountsRequest, context: Any
        ) -> node_pb2.RefreshAccountsResponse:
            told.extend(request.account_ids)
            return node_pb2.RefreshAccountsResponse()

    created = await caller.create()
    node = await world.node("n1", {node_pb2_grpc.add_NodeServiceServicer_to_server: Refreshed()})
    await node.own(created.id)
    async with asyncio.timeout(10):
        while not told:
            await caller.update(created.id, ["display_name"], display_name="x")
    assert set(told) == {created.id}


async def test_importing_and_exporting_are_not_served_yet(world: RouterWorld, caller: Caller) -> None:
    account = await caller.create()
    header = account_pb2.ImportAccountsRequest(header=account_pb2.ImportHeader(request_id="1"))
    importing = world.accounts.ImportAccounts(iter([header]), metadata=caller.metadata)
    exporting = world.accounts.ExportCredentials(
        account_pb2.ExportCredentialsRequest(account_id=account.id), metadata=caller.metadata
    )
    for call in (importing.read(), exporting.read()):
        refused = await failing(call)
        assert (refused.code, refused.reason) == (StatusCode.UNIMPLEMENTED, "NOT_SERVED")


async def test_an_account_is_found_by_its_external_id(world: RouterWorld, caller: Caller) -> None:
    created = await caller.create(external_id="one")
    await (await new_caller(world)).create(external_id="one")
    assert await caller.find("one") == created
    request = account_pb2.GetAccountRequest(external_id="one", tenant_id=caller.tenant_id)
    assert (await world.accounts.GetAccount(request, metadata=ADMIN)).account == created
    refused = await failing(caller.find("two"))
    assert (refused.code, refused.resource) == (StatusCode.NOT_FOUND, "account two")


async def test_an_external_id_that_is_free_again_finds_the_account_deleted_last(caller: Caller) -> None:
    for _ in range(2):
        await caller.delete((await caller.create(external_id="one")).id)
    deleted = [account.id for account in (await caller.page(show_deleted=True)).accounts]
    assert (await caller.find("one")).id == deleted[-1]
    created = await caller.create(external_id="one")
    assert await caller.find("one") == created


async def test_an_account_is_named_by_one_of_its_names(world: RouterWorld, caller: Caller) -> None:
    created = await caller.create(external_id="one")
    assert (await failing(caller.find(""))).field == "account_id"
    assert (await failing(caller.find("one", account_id=created.id))).field == "external_id"
    request = account_pb2.GetAccountRequest(external_id="one")
    refused = await failing(world.accounts.GetAccount(request, metadata=ADMIN))
    assert refused.field == "tenant_id"


async def test_a_paired_account_has_the_number_that_it_is_paired_with(
    world: RouterWorld, caller: Caller
) -> None:
    expected, paired = "+4915112345678", "+4915187654321"
    created = await caller.create(phone=expected)
    await paired_with(world, created, paired)
    assert (await caller.get(created.id)).phone == paired
    assert [account.phone for account in (await caller.page()).accounts] == [paired]
    assert (await caller.update(created.id, ["display_name"], display_name="x")).phone == paired


async def test_the_number_of_a_paired_account_cannot_be_changed(world: RouterWorld, caller: Caller) -> None:
    created = await caller.create()
    await paired_with(world, created, "+4915187654321")
    refused = await failing(caller.update(created.id, ["phone"], phone="+4915112345678"))
    assert (refused.code, refused.reason) == (StatusCode.FAILED_PRECONDITION, "ALREADY_PAIRED")
    read = await caller.get(created.id)
    written = await caller.update(created.id, ["*"], phone=read.phone, display_name="x")
    assert (written.phone, written.display_name) == ("+4915187654321", "x")


async def test_an_account_whose_pairing_ended_may_expect_another_number(
    world: RouterWorld, caller: Caller
) -> None:
    created = await caller.create()
    await paired_with(world, created, "+4915187654321", paired=False)
    updated = await caller.update(created.id, ["phone"], phone="+4915112345678")
    assert updated.phone == "+4915112345678"


async def test_a_limited_key_sees_its_own_accounts_only(world: RouterWorld, caller: Caller) -> None:
    mine, other = await caller.create(external_id="mine"), await caller.create(external_id="other")
    key = await new_key(world, caller.tenant_id, account_ids=[mine.id], scopes=_LIMITED)
    limited = Caller(world, caller.tenant_id, key)
    assert [account.id for account in (await limited.page()).accounts] == [mine.id]
    assert await limited.get(mine.id) == await limited.find("mine") == mine
    for call in (
        limited.get(other.id),
        limited.find("other"),
        limited.update(other.id, ["display_name"], display_name="x"),
        limited.delete(other.id),
    ):
        assert (await failing(call)).code is StatusCode.NOT_FOUND


async def paired_with(world: RouterWorld, account: Account, phone: str, *, paired: bool = True) -> None:
    """What the account's owner stores when it is paired, or when its pairing has ended."""
    await world.database.pool.execute(
        """INSERT INTO session (account, tenant, epoch, node, state, cause, detail, phone, network_user_id,
             push_name, paired, recent_failures, sent, received, failed, connects, settings, update_time,
             hidden_id, restrictions)
           VALUES ($1, $2, 1, 'node-1', 4, 4, '', $3, '', '', $4, 0, 0, 0, 0, 0, '', now(), '', '')""",
        ids.decode(ids.Prefix.ACCOUNT, account.id, "id"),
        ids.decode(ids.Prefix.TENANT, account.tenant_id, "tenant_id"),
        phone,
        paired,
    )


async def test_accounts_that_wait_for_their_tenant_s_row_hold_one_connection(
    world: RouterWorld, caller: Caller
) -> None:
    account = await caller.create()
    other = await new_caller(world)
    pool = world.database.pool
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FROM tenant%'"
    )
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        tenant = ids.decode(Prefix.TENANT, caller.tenant_id, "tenant_id")
        await connection.execute("SELECT FROM tenant WHERE id = $1 FOR UPDATE", tenant)
        creating = [asyncio.create_task(caller.create(), name="create") for _ in range(20)]

        async def one_waits() -> bool:
            return bool(await pool.fetchval(waiting))

        await eventually(one_waits)
        async with asyncio.timeout(10):
            assert (await other.create()).id
            assert (await caller.get(account.id)).id == account.id
            assert (await (await new_caller(world)).page()).accounts == []  # with a key that was never seen
        assert await pool.fetchval(waiting) <= 1, "each is told in time that it waited too long"
        await transaction.rollback()
    await asyncio.gather(*creating, return_exceptions=True)


async def test_a_listing_that_takes_too_long_is_told_so(
    world: RouterWorld, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "SEARCH_SECONDS", 0.1)
    async with world.database.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE session IN ACCESS EXCLUSIVE MODE")
        await connection.execute("LOCK TABLE account IN ACCESS EXCLUSIVE MODE")
        error = await failing(caller.page(labels={"no": "such"}))
    assert (error.code, error.reason) == (StatusCode.DEADLINE_EXCEEDED, "SEARCH_TOO_LONG")
