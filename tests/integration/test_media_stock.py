"""The calls about all of a tenant's media, over gRPC: policies, usage, filters, pruning, and the quota."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from asyncpg.pgproto.pgproto import UUID
from google.protobuf.field_mask_pb2 import FieldMask

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_core.validation import to_duration
from sessionmesh.v1 import job_pb2, media_pb2
from tests.conftest import Databases, LoopThread, fresh_database
from tests.support.eventually import eventually
from tests.support.media_rows import DAY, DEFAULT, NETWORK, RECEIVED, SENT, add_media, days_left, refer
from tests.support.media_world import ADMIN, MediaTenant, MediaWorld, media_world
from tests.support.mesh_api import refusal_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]
STATUS = media_pb2.MEDIA_CATEGORY_STATUS
TEXT = b"Some text, and nothing else.\n"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(
    databases: Databases, server_loop: LoopThread, etcd: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[MediaWorld]:
    objects = {"MESH_OBJECTS_URL": tmp_path_factory.mktemp("objects").as_uri()}
    with fresh_database(databases, server_loop) as url:
        async with media_world(url, etcd, objects) as made:
            yield made


@pytest_asyncio.fixture(loop_scope="module")
async def tenant(world: MediaWorld) -> MediaTenant:
    return await world.tenant()


async def refusal(call: Awaitable[object]) -> tuple[grpc.StatusCode, str, str]:
    """Code, reason and the first field that a call is refused for."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    refused = refusal_of(caught.value)
    return refused.code, refused.reason, next(iter(refused.fields), "")


def uuid_of(media_id: str) -> UUID:
    return ids.decode(Prefix.MEDIA, media_id, "media_id")


def name_of(media: UUID) -> str:
    return ids.encode(Prefix.MEDIA, media)


async def policy(tenant: MediaTenant) -> media_pb2.GetMediaPolicyResponse:
    request = media_pb2.GetMediaPolicyRequest(tenant_id=tenant.id)
    return await tenant.media.GetMediaPolicy(request, metadata=ADMIN)


async def update(
    tenant: MediaTenant, *paths: str, etag: str = "", rules: Any = (), **fields: Any
) -> media_pb2.MediaPolicy:
    request = media_pb2.UpdateMediaPolicyRequest(
        tenant_id=tenant.id,
        policy=media_pb2.MediaPolicy(etag=etag, retention_rules=rules, **fields),
        update_mask=FieldMask(paths=paths),
    )
    return (await tenant.media.UpdateMediaPolicy(request, metadata=ADMIN)).policy


def rule(category: int, keep_for: timedelta | None = None, max_bytes: int | None = None) -> Any:
    return media_pb2.RetentionRule(
        category=media_pb2.MediaCategory.ValueType(category),
        keep_for=None if keep_for is None else to_duration(keep_for),
        max_bytes=max_bytes,
    )


class TestPolicies:
    @pytest.mark.read_back("GetMediaPolicy")
    async def test_are_the_meshs_where_a_tenant_has_none(self, tenant: MediaTenant) -> None:
        found = await policy(tenant)
        assert not found.policy.retention_rules
        assert not found.policy.HasField("update_time")
        kept = {rule.category: rule.keep_for.seconds // 86_400 for rule in found.default_retention_rules}
        assert kept == {2: 30, 4: 30, 5: 30, 6: 30}

    @pytest.mark.read_back("UpdateMediaPolicy")
    async def test_change_what_the_mask_names(self, tenant: MediaTenant) -> None:
        rules = [rule(RECEIVED, 7 * DAY, 1_000_000), rule(SENT), rule(STATUS, timedelta())]
        await update(
            tenant, "retention_rules", "compression", compression=media_pb2.COMPRESSION_OFF, rules=rules
        )
        await update(tenant, "keep_original", keep_original=True)
        found = (await policy(tenant)).policy
        assert list(found.retention_rules) == rules
        assert (found.compression, found.keep_original) == (media_pb2.COMPRESSION_OFF, True)
        assert found.HasField("update_time")

    async def test_are_not_changed_over_a_change_that_was_not_seen(self, tenant: MediaTenant) -> None:
        before = (await policy(tenant)).policy.etag
        await update(tenant, "keep_original", etag=before, keep_original=True)
        refused = await refusal(update(tenant, "keep_original", etag=before))
        assert refused[:2] == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
        assert (await policy(tenant)).policy.keep_original

    @pytest.mark.parametrize(
        ("rules", "field"),
        [
            ([rule(0)], "policy.retention_rules[0].category"),
            ([rule(RECEIVED), rule(RECEIVED, DAY)], "policy.retention_rules[1].category"),
            ([rule(RECEIVED, -DAY)], "policy.retention_rules[0].keep_for"),
            ([rule(RECEIVED, 5_000 * DAY)], "policy.retention_rules[0].keep_for"),
            ([rule(RECEIVED, max_bytes=-1)], "policy.retention_rules[0].max_bytes"),
        ],
        ids=["no category", "twice", "negative", "too long", "negative bytes"],
    )
    async def test_that_cannot_be_are_refused(self, tenant: MediaTenant, rules: Any, field: str) -> None:
        refused = await refusal(update(tenant, "retention_rules", rules=rules))
        assert (refused[0], refused[2]) == (grpc.StatusCode.INVALID_ARGUMENT, field)
        assert not (await policy(tenant)).policy.retention_rules

    async def test_of_unknown_tenants_are_not_found(self, world: MediaWorld) -> None:
        nobody = MediaTenant(world, ids.new_uuid())
        assert (await refusal(policy(nobody)))[0] is grpc.StatusCode.NOT_FOUND
        assert (await refusal(update(nobody, "keep_original")))[0] is grpc.StatusCode.NOT_FOUND

    async def test_hold_for_files_that_are_stored_and_for_those_to_come(self, tenant: MediaTenant) -> None:
        stored = uuid_of((await tenant.upload(TEXT)).id)
        await update(tenant, "retention_rules", rules=[rule(DEFAULT, 9 * DAY)])

        async def follows() -> bool:
            return await days_left(tenant.database, stored) is not None

        await eventually(follows)
        come = await tenant.upload(TEXT + b"more")
        left = (come.expire_time.ToDatetime() - come.create_time.ToDatetime()) / DAY
        assert 8.9 < left < 9.1


async def usage(tenant: MediaTenant) -> media_pb2.GetMediaUsageResponse:
    request = media_pb2.GetMediaUsageRequest(tenant_id=tenant.id)
    return await tenant.media.GetMediaUsage(request, metadata=ADMIN)


def counts(by: Any) -> dict[int, tuple[int, int]]:
    return {each.category: (each.stored.objects, each.stored.size_bytes) for each in by}


class TestUsage:
    @pytest.mark.read_back("GetMediaUsage")
    async def test_is_told_by_category_in_each_that_a_file_is_referred_to_in(
        self, tenant: MediaTenant
    ) -> None:
        both, sent, _unused = [await add_media(tenant.database, tenant.uuid, size=n) for n in (1, 2, 4)]
        _lone = await add_media(tenant.database, tenant.uuid, size=8, origin=NETWORK)
        await refer(tenant.database, both, RECEIVED)
        for media in (both, sent, sent):
            await refer(tenant.database, media, SENT)
        found = await usage(tenant)
        assert counts(found.by_category) == {DEFAULT: (1, 4), RECEIVED: (2, 9), SENT: (2, 3)}
        assert (found.stored.objects, found.stored.size_bytes) == (4, 15)

    @pytest.mark.read_back("ListAccountMediaUsage")
    async def test_of_accounts_has_the_most_bytes_first_in_pages(self, tenant: MediaTenant) -> None:
        accounts = [await tenant.account() for _ in range(3)]
        uuids = [ids.decode(Prefix.ACCOUNT, account, "") for account in accounts]
        shared = await add_media(tenant.database, tenant.uuid, size=10)
        for account in uuids:
            await refer(tenant.database, shared, SENT, account=account)
        await refer(tenant.database, shared, RECEIVED, account=uuids[1])
        await add_media(tenant.database, tenant.uuid, size=5, account=uuids[2])
        request = media_pb2.ListAccountMediaUsageRequest(tenant_id=tenant.id, page_size=2)
        first = await tenant.media.ListAccountMediaUsage(request, metadata=ADMIN)
        request.page_token = first.next_page_token
        second = await tenant.media.ListAccountMediaUsage(request, metadata=ADMIN)
        found = {each.account_id: each for each in (*first.accounts, *second.accounts)}
        assert next(iter(found)) == accounts[2]
        assert {name: each.stored.size_bytes for name, each in found.items()} == dict(
            zip(accounts, [10, 10, 15], strict=True)
        )
        assert counts(found[accounts[1]].by_category) == {RECEIVED: (1, 10), SENT: (1, 10)}
        assert counts(found[accounts[2]].by_category) == {DEFAULT: (1, 5), SENT: (1, 10)}
        assert not second.next_page_token

    async def test_of_accounts_is_of_those_that_the_key_has(self, tenant: MediaTenant) -> None:
        mine, other = await tenant.account(), await tenant.account()
        media = await add_media(tenant.database, tenant.uuid)
        for account in (mine, other):
            await refer(tenant.database, media, SENT, account=ids.decode(Prefix.ACCOUNT, account, ""))
        key = await tenant.key_for(mine)
        listed = await tenant.media.ListAccountMediaUsage(
            media_pb2.ListAccountMediaUsageRequest(), metadata=key
        )
        assert [each.account_id for each in listed.accounts] == [mine]
        others = media_pb2.ListAccountMediaUsageRequest(account_id=other)
        refused = await refusal(tenant.media.ListAccountMediaUsage(others, metadata=key))
        assert refused[0] is grpc.StatusCode.NOT_FOUND


async def listed(tenant: MediaTenant, metadata: Any = ADMIN, **wanted: Any) -> list[UUID]:
    named = tenant.id if metadata is ADMIN else ""
    request = media_pb2.ListMediaRequest(tenant_id=named, filter=media_pb2.MediaFilter(**wanted))
    answer = await tenant.media.ListMedia(request, metadata=metadata)
    return [uuid_of(media.id) for media in answer.media]


class TestFilters:
    @pytest.mark.read_back("ListMedia")
    async def test_by_category_and_account_know_what_refers_to_a_file(self, tenant: MediaTenant) -> None:
        account = await tenant.account()
        own = ids.decode(Prefix.ACCOUNT, account, "")
        unused, sent, received = [await add_media(tenant.database, tenant.uuid) for _ in range(3)]
        for_account = await add_media(tenant.database, tenant.uuid, account=own)
        await refer(tenant.database, sent, SENT, account=own)
        await refer(tenant.database, received, RECEIVED)
        assert await listed(tenant, category=media_pb2.MEDIA_CATEGORY_SENT) == [sent]
        assert await listed(tenant, category=media_pb2.MEDIA_CATEGORY_RECEIVED) == [received]
        assert await listed(tenant, category=media_pb2.MEDIA_CATEGORY_DEFAULT) == [for_account, unused]
        assert await listed(tenant, account_id=account) == [for_account, sent]
        assert await listed(tenant, account_id=account, category=media_pb2.MEDIA_CATEGORY_SENT) == [sent]

    async def test_of_a_limited_key_reach_what_its_accounts_messages_refer_to(
        self, tenant: MediaTenant
    ) -> None:
        account = await tenant.account()
        media, hidden = [await add_media(tenant.database, tenant.uuid) for _ in range(2)]
        await refer(tenant.database, media, SENT, account=ids.decode(Prefix.ACCOUNT, account, ""))
        key = await tenant.key_for(account)
        assert await listed(tenant, metadata=key) == [media]
        found = await tenant.media.GetMedia(media_pb2.GetMediaRequest(media_id=name_of(media)), metadata=key)
        assert list(found.media.categories) == [SENT]
        other = tenant.media.GetMedia(media_pb2.GetMediaRequest(media_id=name_of(hidden)), metadata=key)
        assert (await refusal(other))[0] is grpc.StatusCode.NOT_FOUND

    async def test_of_a_limited_key_tell_nothing_of_other_accounts(self, tenant: MediaTenant) -> None:
        mine, other = await tenant.account(), await tenant.account()
        own, theirs = [ids.decode(Prefix.ACCOUNT, account, "") for account in (mine, other)]
        media = await add_media(tenant.database, tenant.uuid, account=theirs)
        for_mine = await add_media(tenant.database, tenant.uuid, account=own)
        await refer(tenant.database, media, SENT, account=own)
        for shared in (media, for_mine):
            await refer(tenant.database, shared, STATUS, account=theirs)
        key = await tenant.key_for(mine)
        answer = await tenant.media.ListMedia(media_pb2.ListMediaRequest(), metadata=key)
        assert [(each.id, each.account_id, [*each.categories]) for each in answer.media] == [
            (name_of(for_mine), mine, [DEFAULT]),
            (name_of(media), "", [SENT]),
        ]
        found = await tenant.media.GetMedia(media_pb2.GetMediaRequest(media_id=name_of(media)), metadata=key)
        assert found.media == answer.media[1]
        assert await listed(tenant, metadata=key, category=STATUS) == []
        assert await listed(tenant, metadata=key, category=media_pb2.MEDIA_CATEGORY_DEFAULT) == [for_mine]
        assert await listed(tenant, metadata=key, category=media_pb2.MEDIA_CATEGORY_SENT) == [media]

    async def test_of_an_upload_again_by_a_limited_key_tell_nothing_of_others(
        self, tenant: MediaTenant
    ) -> None:
        mine, other = await tenant.account(), await tenant.account()
        header, key = tenant.header(b"%PDF-1.7", mine), await tenant.key_for(mine)
        media = await tenant.upload(b"%PDF-1.7", header, key)
        uuid = ids.decode(Prefix.MEDIA, media.id, "")
        await refer(tenant.database, uuid, STATUS, account=ids.decode(Prefix.ACCOUNT, other, ""))
        again = await tenant.upload(b"%PDF-1.7", header, key)
        assert (again.id, [*again.categories]) == (media.id, [DEFAULT])

    async def test_by_an_account_that_the_key_is_not_good_for_are_refused(self, tenant: MediaTenant) -> None:
        mine, other = await tenant.account(), await tenant.account()
        shared = await add_media(tenant.database, tenant.uuid)
        for account in (mine, other):
            await refer(tenant.database, shared, SENT, account=ids.decode(Prefix.ACCOUNT, account, ""))
        request = media_pb2.ListMediaRequest(filter=media_pb2.MediaFilter(account_id=other))
        call = tenant.media.ListMedia(request, metadata=await tenant.key_for(mine))
        assert (await refusal(call))[0] is grpc.StatusCode.NOT_FOUND


async def test_a_limited_key_deletes_only_what_is_all_of_its_accounts(tenant: MediaTenant) -> None:
    mine, other = await tenant.account(), await tenant.account()
    own, theirs = [ids.decode(Prefix.ACCOUNT, account, "") for account in (mine, other)]
    alone, shared = [await add_media(tenant.database, tenant.uuid, account=own) for _ in range(2)]
    of_tenant = await add_media(tenant.database, tenant.uuid)
    for media in (alone, shared, of_tenant):
        await refer(tenant.database, media, SENT, account=own)
    await refer(tenant.database, shared, RECEIVED, account=theirs)
    key = await tenant.key_for(mine)
    for media in (shared, of_tenant):
        call = tenant.media.DeleteMedia(media_pb2.DeleteMediaRequest(media_id=name_of(media)), metadata=key)
        assert (await refusal(call))[:2] == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")
    await tenant.media.DeleteMedia(media_pb2.DeleteMediaRequest(media_id=name_of(alone)), metadata=key)
    assert await listed(tenant) == [of_tenant, shared]


async def prune(
    tenant: MediaTenant, request_id: str = "", dry_run: bool = False, **wanted: Any
) -> job_pb2.Job:
    """The job, as PruneMedia answers it."""
    request = media_pb2.PruneMediaRequest(
        request_id=request_id or uuid.uuid4().hex,
        tenant_id=tenant.id,
        filter=media_pb2.MediaFilter(**wanted),
        dry_run=dry_run,
    )
    return (await tenant.media.PruneMedia(request, metadata=ADMIN)).job


async def ended(tenant: MediaTenant, job: job_pb2.Job) -> dict[str, Any]:
    """Its row, once it has ended."""

    async def row() -> Any:
        query = "SELECT * FROM job WHERE id = $1 AND end_time IS NOT NULL"
        return await tenant.database.fetchrow(query, ids.decode(Prefix.JOB, job.id, ""))

    return dict(await eventually(row))


class TestPruning:
    @pytest.mark.read_back("PruneMedia")
    async def test_deletes_what_matches_and_says_what_that_freed(self, tenant: MediaTenant) -> None:
        kept = await tenant.upload(b"%PDF-1.7\n" + bytes(1000))
        for _ in range(2):
            await tenant.upload(TEXT, tenant.header(TEXT, mime_type="text/plain"))
        row = await ended(tenant, await prune(tenant, mime_type_prefix="text/"))
        assert (row["state"], row["done"]) == (job_pb2.JOB_STATE_SUCCEEDED, 2)
        assert row["done_bytes"] == len(TEXT)
        assert await listed(tenant) == [uuid_of(kept.id)]

    async def test_that_is_dry_deletes_nothing_and_says_the_same(self, tenant: MediaTenant) -> None:
        account = await tenant.account()
        shared = [
            await tenant.upload(TEXT, tenant.header(TEXT, account_id=account)),
            await tenant.upload(TEXT),
        ]
        await tenant.upload(TEXT + b"!", tenant.header(TEXT + b"!", account_id=account))
        row = await ended(tenant, await prune(tenant, dry_run=True, account_id=account))
        assert (row["done"], row["done_bytes"]) == (2, len(TEXT) + 1)
        assert await tenant.media_count() == 3
        row = await ended(tenant, await prune(tenant, account_id=account))
        assert (row["done"], row["done_bytes"]) == (2, len(TEXT) + 1)
        assert await listed(tenant) == [uuid_of(shared[1].id)]

    async def test_asked_for_again_is_the_same_job(self, tenant: MediaTenant) -> None:
        first = await prune(tenant, request_id="same", mime_type_prefix="x")
        assert (await prune(tenant, request_id="same", mime_type_prefix="x")).id == first.id
        refused = await refusal(prune(tenant, request_id="same", mime_type_prefix="y"))
        assert refused[:2] == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")

    async def test_by_a_field_of_a_later_version_is_refused(self, tenant: MediaTenant) -> None:
        await tenant.upload(TEXT)
        later = media_pb2.MediaFilter.FromString(b"\xf8\x07\x01")
        request = media_pb2.PruneMediaRequest(request_id="later", tenant_id=tenant.id, filter=later)
        refused = await refusal(tenant.media.PruneMedia(request, metadata=ADMIN))
        assert (refused[0], refused[2]) == (grpc.StatusCode.INVALID_ARGUMENT, "filter")
        assert await tenant.media_count() == 1

    async def test_that_have_not_ended_are_limited(self, tenant: MediaTenant) -> None:
        for _ in range(20):
            await tenant.database.execute(
                "INSERT INTO job (id, tenant, kind, state) VALUES ($1, $2, $3, 0)",
                ids.new_uuid(),
                tenant.uuid,
                job_pb2.JOB_KIND_PRUNE_MEDIA,
            )
        refused = await refusal(prune(tenant, mime_type_prefix="x"))
        assert refused[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        await tenant.database.execute("UPDATE job SET end_time = now() WHERE tenant = $1", tenant.uuid)
        await prune(tenant, mime_type_prefix="x")

    async def test_wants_a_filter(self, tenant: MediaTenant) -> None:
        refused = await refusal(prune(tenant))
        assert (refused[0], refused[2]) == (grpc.StatusCode.INVALID_ARGUMENT, "filter")


@pytest.mark.read_back("UploadMedia")
async def test_a_quota_holds_for_two_uploads_at_once(tenant: MediaTenant) -> None:
    files = [bytes([65 + n]) * 600 for n in range(2)]
    await tenant.database.execute(
        """UPDATE tenant SET settings = '{"max_media_bytes": 1000}' WHERE id = $1""", tenant.uuid
    )
    outcomes = await asyncio.gather(*map(tenant.upload, files), return_exceptions=True)
    [refused] = [one for one in outcomes if isinstance(one, grpc.aio.AioRpcError)]
    assert refusal_of(refused).reason == "QUOTA_EXCEEDED"

    async def settled() -> bool:
        found = await usage(tenant)
        return (found.stored.size_bytes, found.reserved_bytes) == (600, 0)

    await eventually(settled)
