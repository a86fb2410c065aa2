"""What a tenant keeps of one person is exported and erased, over a real router and Postgres."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import pytest
from asyncpg.pgproto.pgproto import UUID
from google.protobuf.json_format import MessageToJson
from grpc import StatusCode

from mesh_core import ids
from mesh_core.database.requests import Method, RecordKind
from mesh_core.ids import Prefix, new_uuid
from mesh_router.retention import erasing, person_rows
from mesh_router.retention.persons import Identities
from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.internal.v1 import node_pb2, node_pb2_grpc
from sessionmesh.internal.v1.group_record_pb2 import GroupRecord
from sessionmesh.internal.v1.receipt_record_pb2 import ReceiptPart
from sessionmesh.v1 import chat_pb2, event_pb2, job_pb2, message_pb2, tenant_pb2
from sessionmesh.v1.common_pb2 import Person
from sessionmesh.v1.contact_pb2 import Contact
from sessionmesh.v1.content_pb2 import PollVoteContent
from sessionmesh.v1.group_pb2 import GROUP_ROLE_ADMIN, Group, GroupMember, JoinRequest
from tests.integration.test_router_tenant_deletion import ended
from tests.integration.test_router_tenants import create_account, create_key, create_tenant, unique
from tests.support.eventually import eventually
from tests.support.media_rows import RECEIVED, REVOKED, add_media, refer
from tests.support.router_world import ADMIN, RouterWorld, bearer, failing

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANN: Any = {
    "address": "hidden:4711ann",
    "phone": "+4915112345678",
    "hidden_id": "4711ann",
    "display_name": "Ann",
}
BOB: Any = {"address": "phone:+491511234567", "phone": "+491511234567"}
"""His number is the beginning of hers."""
ANNS = ("hidden:4711ann", "phone:+4915112345678")
LOCK_EXPORT = "SELECT pg_advisory_lock(hashtext('sessionmesh export of ' || $1))"
GROUP = "group:friends"
EARLIER: Any = {"seconds": 1}
TEXT: Any = {"text": {"body": "hello"}}
API, INBOUND, OUTBOUND, QUEUED, SENT = message_pb2.MESSAGE_ORIGIN_API, 2, 1, 10, 30


@dataclass
class Kept:
    """A tenant with an account, its key, and what it keeps."""

    world: RouterWorld
    tenant: UUID
    account: UUID
    key: str

    async def message(
        self, chat: str, stored: Any, *, direction: int = INBOUND, origin: int = 0, status: int = 0
    ) -> UUID:
        message = new_uuid()
        await self.world.database.pool.execute(
            "INSERT INTO message (id, account, epoch, direction, status, chat, content, origin, external_id)"
            " VALUES ($1, $2, 1, $3, $4, $5, $6, $7, 'mine')",
            message,
            self.account,
            direction,
            status,
            chat,
            stored.SerializeToString(),
            origin,
        )
        return message

    async def received(self, chat: str, sender: Any) -> UUID:
        return await self.message(
            chat, message_pb2.Message(chat=chat, sender=sender, content=TEXT, network_time=EARLIER)
        )

    async def edited_before_it_came(self, chat: str, sender: Any, content: Any) -> UUID:
        """The place of a message that is still to come."""
        place = await self.message(chat, message_pb2.Message(chat=chat, sender=sender, content=content))
        await self.world.database.pool.execute(
            "INSERT INTO network_message (account, network_id, message) VALUES ($1, $2, $3)",
            self.account,
            str(place),
            place,
        )
        return place

    async def sent(self, chat: str, status: int = SENT, **fields: Any) -> UUID:
        request = message_pb2.SendMessageRequest(recipient=chat, content=TEXT, **fields)
        return await self.message(chat, request, direction=OUTBOUND, origin=API, status=status)

    async def event(self, **fields: Any) -> UUID:
        """An event with its delivery, which has the same id."""
        event = new_uuid()
        body = event_pb2.Event(
            id=ids.encode(Prefix.EVENT, event),
            tenant_id=ids.encode(Prefix.TENANT, self.tenant),
            account_id=ids.encode(Prefix.ACCOUNT, self.account),
            type="message.received",
            **fields,
        )
        await self.world.database.pool.execute(
            "INSERT INTO event (id, seq, tenant, account, epoch, type, body)"
            " VALUES ($1, 1, $2, $3, 1, $4, $5)",
            event,
            self.tenant,
            self.account,
            body.type,
            body.SerializeToString(),
        )
        await self.world.database.pool.execute(
            "INSERT INTO webhook_delivery (id, endpoint, tenant, account, event, event_type, body)"
            " VALUES ($1, $1, $2, $3, $1, 't', $4)",
            event,
            self.tenant,
            self.account,
            MessageToJson(body, preserving_proto_field_name=True).encode(),
        )
        return event

    async def confirmed(self, message: UUID, *members: str) -> None:
        """Members of a group have a message, since the first microseconds of 1970."""
        times = range(1, len(members) + 1)
        part = ReceiptPart(status=message_pb2.MESSAGE_STATUS_DELIVERED, members=members, times=times)
        await self.world.database.pool.execute(
            "INSERT INTO message_receipt_part VALUES ($1, $1, $2)", message, part.SerializeToString()
        )

    async def exported(self, address: str) -> list[tenant_pb2.ExportPersonDataResponse]:
        call = self.world.tenants.ExportPersonData(
            tenant_pb2.ExportPersonDataRequest(address=address), metadata=bearer(self.key)
        )
        return [frame async for frame in call]

    async def erased(self, address: str) -> job_pb2.Job:
        request = tenant_pb2.ErasePersonDataRequest(request_id=unique(), address=address)
        job = (await self.world.tenants.ErasePersonData(request, metadata=bearer(self.key))).job
        return await ended(self.world, job)

    async def row(self, table: str, row: UUID) -> Any:
        return await self.world.database.pool.fetchrow(f"SELECT * FROM {table} WHERE id = $1", row)


async def kept(world: RouterWorld) -> Kept:
    created = await create_tenant(world)
    scopes = ["SCOPE_READ", "SCOPE_SEND", "SCOPE_MANAGE", "SCOPE_TENANT_ADMIN"]
    key = (await create_key(world, created.id, scopes=scopes)).secret
    account = ids.decode(Prefix.ACCOUNT, await create_account(world, key), "")
    return Kept(world, ids.decode(Prefix.TENANT, created.id, ""), account, key)


@pytest.mark.read_back("ExportPersonData")
async def test_an_export_has_all_that_names_the_person_under_any_address_and_nothing_else(
    world: RouterWorld,
) -> None:
    mine, others = await kept(world), await kept(world)
    expected = {
        await mine.received("hidden:4711ann", ANN),
        await mine.received(GROUP, ANN),
        await mine.sent("phone:+4915112345678"),
        await mine.sent(GROUP, options={"mentions": ["hidden:4711ann"]}),
    }
    group = await mine.sent(GROUP)
    await mine.received("phone:+491511234567", BOB)
    await others.received("hidden:4711ann", ANN)
    event = await mine.event(message={"message": {"sender": ANN}})
    await mine.event(message={"message": {"sender": BOB}})
    for member in (ANN["address"], BOB["address"]):
        await world.database.pool.execute(
            "INSERT INTO message_receipt VALUES ($1, $2, 40, now())", group, member
        )
    await mine.confirmed(group, "phone:+491511234567", "hidden:4711ann")
    frames = await mine.exported("+4915112345678")
    assert tuple(frames[0].addresses.addresses) == ANNS
    assert {ids.decode(Prefix.MESSAGE, f.message.id, "") for f in frames if f.HasField("message")} == expected
    assert all(f.message.content.text.body for f in frames if f.HasField("message"))
    received = [f.receipt for f in frames if f.HasField("receipt")]
    assert [ids.decode(Prefix.MESSAGE, one.message_id, "") for one in received] == [group, group]
    found = [f.event.id for f in frames if f.HasField("event")]
    account_event = [f for f in frames if f.HasField("event") and f.event.type == "account.created"]
    assert (found, account_event) == ([ids.encode(Prefix.EVENT, event)], [])


async def test_an_erased_person_is_in_no_group_that_is_stored(world: RouterWorld) -> None:
    mine = await kept(world)
    ann, ben = Person(**{**ANN, "address": "phone:+4915112345678"}), Person(address="phone:+4915199999998")
    group = GroupRecord(group=Group(address=GROUP, name="Crew", creator=ann))
    rows = [
        (RecordKind.GROUP, "", group),
        (RecordKind.GROUP_MEMBER, "phone:+4915112345678", GroupMember(person=ann)),
        (RecordKind.GROUP_MEMBER, ben.address, GroupMember(person=ben)),
        (RecordKind.GROUP_JOIN_REQUEST, "user:4915112345678", JoinRequest(requester=ann)),
    ]
    for kind, member, value in rows:
        await world.database.pool.execute(
            "INSERT INTO account_record VALUES ($1, $2, $3, $4, $5, now())",
            mine.account,
            kind,
            GROUP,
            member,
            value.SerializeToString(),
        )
    job = await mine.erased("hidden:4711ann")
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED
    left = await world.database.pool.fetch(
        "SELECT kind, member, value FROM account_record WHERE account = $1 ORDER BY kind", mine.account
    )
    assert [(row["kind"], row["member"]) for row in left] == [
        (RecordKind.GROUP, ""),
        (RecordKind.GROUP_MEMBER, ben.address),
    ]
    stored = GroupRecord.FromString(left[0]["value"]).group
    assert (stored.name, stored.HasField("creator")) == ("Crew", False)


async def test_of_many_who_have_a_message_an_erased_person_alone_is_taken_out(world: RouterWorld) -> None:
    mine = await kept(world)
    group = await mine.sent(GROUP)
    await mine.confirmed(group, BOB["address"], "hidden:4711ann")
    members = [{"member": ANN}, {"member": BOB}]
    event = await mine.event(message_status={"chat": GROUP, "members": members})
    exported = [f.event for f in await mine.exported("hidden:4711ann") if f.HasField("event")]
    assert [len(one.message_status.members) for one in exported] == [1]
    assert (await mine.erased("hidden:4711ann")).state == job_pb2.JOB_STATE_SUCCEEDED
    stored = await world.database.pool.fetchval(
        "SELECT receipts FROM message_receipt_part WHERE message = $1", group
    )
    part = ReceiptPart.FromString(stored)
    assert ([*part.members], [*part.times]) == ([BOB["address"]], [1])
    told = event_pb2.Event.FromString((await mine.row("event", event))["body"]).message_status
    assert [one.member.address for one in told.members] == [BOB["address"]]
    assert told.chat == GROUP


@pytest.mark.read_back("ErasePersonData")
async def test_answers_and_jobs_that_name_an_erased_person_name_them_no_more(world: RouterWorld) -> None:
    mine, pool = await kept(world), world.database.pool
    answers = {"of her": "phone:+4915112345678", "of another": "phone:+49160"}
    for request_id, chat in answers.items():
        answer = chat_pb2.MarkChatReadResponse(chat=chat_pb2.Chat(address=chat)).SerializeToString()
        await pool.execute(
            "INSERT INTO request (scope, method, request_id, digest, result, answer)"
            " VALUES ($1, $2, $3, '', $4, $5)",
            mine.account,
            Method.MARK_CHAT_READ,
            request_id,
            new_uuid(),
            answer,
        )
    for subject in answers.values():
        await pool.execute(
            "INSERT INTO job (id, tenant, account, kind, subject) VALUES ($1, $2, $3, $4, $5)",
            new_uuid(),
            mine.tenant,
            mine.account,
            job_pb2.JOB_KIND_SYNC_HISTORY,
            subject,
        )

    await mine.erased("phone:+4915112345678")

    rows = await pool.fetch("SELECT request_id, answer FROM request WHERE scope = $1", mine.account)
    assert {row["request_id"]: row["answer"] is None for row in rows} == {"of her": True, "of another": False}
    jobs = await pool.fetch(
        "SELECT subject, cancel_time FROM job WHERE tenant = $1 AND kind = $2",
        mine.tenant,
        job_pb2.JOB_KIND_SYNC_HISTORY,
    )
    assert {(row["subject"], row["cancel_time"] is None) for row in jobs} == {
        ("", False),
        ("phone:+49160", True),
    }


async def test_an_erased_person_is_named_nowhere_and_the_statuses_stay(world: RouterWorld) -> None:
    mine, others = await kept(world), await kept(world)
    sent = await mine.sent("phone:+4915112345678")
    received = await mine.received("hidden:4711ann", ANN)
    in_group = await mine.received(GROUP, ANN)
    event = await mine.event(message={"message": {"sender": {"phone": ANN["phone"]}, "content": TEXT}})
    await world.database.pool.execute(
        "INSERT INTO message_receipt VALUES ($1, 'hidden:4711ann', 40, now())", in_group
    )
    await world.database.pool.execute(
        "INSERT INTO webhook_owed (tenant, xid, seq, event, event_type, labels, body, traceparent)"
        " SELECT tenant, '1', 1, event, '', '{}', body, '' FROM webhook_delivery WHERE id = $1",
        event,
    )
    elsewhere = await others.received("hidden:4711ann", ANN)
    for kept_of in (mine, others):
        await world.database.pool.execute(
            "INSERT INTO account_record VALUES ($1, 1, 'poll', 'hidden:4711ann', '', now())", kept_of.account
        )
    job = await mine.erased("hidden:4711ann")
    assert (job.state, job.done, job.failed) == (job_pb2.JOB_STATE_SUCCEEDED, 8, 0)
    left = await world.database.pool.fetch("SELECT account FROM account_record WHERE kind = 1")
    assert [row["account"] for row in left] == [others.account]
    for message, chat in ((sent, "hidden:erased"), (received, "hidden:erased"), (in_group, GROUP)):
        row = await mine.row("message", message)
        assert (row["content"], row["chat"], row["external_id"]) == (b"", chat, "mine")
    assert (await mine.row("message", sent))["status"] == SENT
    bare = event_pb2.Event.FromString((await mine.row("event", event))["body"])
    assert (bare.id, bare.WhichOneof("payload")) == (ids.encode(Prefix.EVENT, event), None)
    delivered = json.loads((await mine.row("webhook_delivery", event))["body"])
    owed = await world.database.pool.fetchval("SELECT body FROM webhook_owed WHERE tenant = $1", mine.tenant)
    assert json.loads(owed) == delivered
    assert delivered == {"id": bare.id, "tenant_id": bare.tenant_id, "account_id": bare.account_id} | {
        "type": "message.received"
    }
    assert [frame.WhichOneof("record") for frame in await mine.exported("hidden:4711ann")] == ["addresses"]
    assert len(await mine.exported("phone:+4915112345678")) == 1
    assert (await others.row("message", elsewhere))["chat"] == "hidden:4711ann"
    stored = await world.database.pool.fetchrow("SELECT * FROM job WHERE tenant = $1", mine.tenant)
    assert "4711ann" not in str(stored)


async def test_the_place_of_an_edited_message_goes_so_that_it_does_not_swallow_the_message(
    world: RouterWorld,
) -> None:
    mine = await kept(world)
    edited = await mine.edited_before_it_came("hidden:4711ann", ANN, TEXT)
    revoked = await mine.edited_before_it_came("hidden:4711ann", ANN, {"revoked": {}})
    job = await mine.erased("hidden:4711ann")
    assert (job.state, job.done) == (job_pb2.JOB_STATE_SUCCEEDED, 2)
    query = (
        "SELECT m.content FROM network_message n LEFT JOIN message m ON m.id = n.message WHERE n.message = $1"
    )
    places = [await world.database.pool.fetchval(query, place) for place in (edited, revoked)]
    assert places == [None, b""]


async def test_what_becomes_a_delivery_while_a_person_is_erased_names_them_no_more(
    world: RouterWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = await kept(world)
    pool, endpoint, event = world.database.pool, new_uuid(), new_uuid()
    await pool.execute(
        "INSERT INTO webhook_endpoint (id, tenant, url, secret) VALUES ($1, $2, 'https://a.example', '')",
        endpoint,
        mine.tenant,
    )
    await pool.execute(
        "INSERT INTO webhook_owed (tenant, xid, seq, event, event_type, labels, body, traceparent)"
        " VALUES ($1, '7', 1, $2, '', '{}', $3, '')",
        mine.tenant,
        event,
        json.dumps({"type": "message.received", "message": {"sender": ANN}}).encode(),
    )
    read = erasing._owed

    async def made_first(*arguments: Any) -> AsyncIterator[Any]:
        settle = "SELECT webhook_settle($1, '{7}', '{1}', ARRAY[$2::uuid], '{NULL}', $3, $4, '{1}')"
        assert await pool.fetchval(settle, mine.tenant, UUID(bytes(16)), [new_uuid()], [endpoint])
        async for found in read(*arguments):
            yield found

    monkeypatch.setattr(erasing, "_owed", made_first)
    async with pool.acquire() as connection:
        async for _ in erasing.erase(connection, mine.tenant, Identities(*ANNS)):
            pass
    body = await pool.fetchval("SELECT body FROM webhook_delivery WHERE event = $1", event)
    assert json.loads(body) == {"type": "message.received"}


async def test_media_that_came_from_the_person_go_and_those_sent_to_them_stay(world: RouterWorld) -> None:
    mine = await kept(world)
    media = [new_uuid(), new_uuid()]
    for number, one in enumerate(media):
        await world.database.pool.execute(
            "INSERT INTO media_object VALUES ($1, $2::bytea, $3, 1, 1)", mine.tenant, one.bytes, str(one)
        )
        await world.database.pool.execute(
            "INSERT INTO media (id, tenant, mime_type, sha256, original_size, original_sha256, origin,"
            " unprocessed) VALUES ($1, $2, 'image/png', $3, 1, '', $4, 0)",
            one,
            mine.tenant,
            one.bytes,
            number,
        )
    contents: list[Any] = [{"image": {"media": {"media_id": ids.encode(Prefix.MEDIA, one)}}} for one in media]
    await mine.message(
        "hidden:4711ann", message_pb2.Message(sender=ANN, content=contents[0], network_time=EARLIER)
    )
    await mine.message(
        "hidden:4711ann",
        message_pb2.SendMessageRequest(recipient="hidden:4711ann", content=contents[1]),
        direction=OUTBOUND,
        origin=API,
        status=SENT,
    )
    await mine.erased("hidden:4711ann")
    assert [(await mine.row("media", one))["expire_time"] is not None for one in media] == [True, False]


async def test_pictures_that_accounts_were_given_of_the_person_go_and_those_that_others_show_too_stay(
    world: RouterWorld,
) -> None:
    mine = await kept(world)
    pool = world.database.pool
    kind, bob = RecordKind.CONTACT_PICTURE, str(BOB["address"])
    hers, of_both = [await add_media(pool, mine.tenant, account=mine.account) for _ in range(2)]
    for whose, size, picture in (
        (ANNS[1], "image", hers),
        (ANNS[1], "preview", of_both),
        (bob, "image", of_both),
    ):
        given = "INSERT INTO account_record VALUES ($1, $2, $3, $4, $5, now())"
        await pool.execute(given, mine.account, kind, whose, size, picture.bytes)

    await mine.erased(ANNS[1])

    assert [(await mine.row("media", one))["ended"] for one in (hers, of_both)] == [True, False]
    left = "SELECT key FROM account_record WHERE account = $1 AND kind = $2"
    assert [row["key"] for row in await pool.fetch(left, mine.account, kind)] == [bob]


class Nodes(node_pb2_grpc.NodeServiceServicer):
    """A node that notes whom it is to forget, and whether their identity was stored then."""

    def __init__(self, mine: Kept) -> None:
        self._mine = mine
        self.told: list[tuple[str, list[str], bool]] = []

    async def ForgetPerson(self, request: Any, _context: Any) -> Any:
        stored = "SELECT true FROM person_identity WHERE account = $1"
        known = await self._mine.world.database.pool.fetchval(stored, self._mine.account)
        self.told.append((request.tenant_id, [*request.addresses], bool(known)))
        return node_pb2.ForgetPersonResponse()


async def test_nodes_forget_the_person_before_and_after_what_is_stored_goes(world: RouterWorld) -> None:
    mine = await kept(world)
    await world.database.pool.execute(
        "INSERT INTO person_identity VALUES ($1, $2, $3, '', $4, '', 'Ann', now())",
        mine.account,
        ANN["address"],
        ANN["phone"],
        ANN["hidden_id"],
    )
    nodes = Nodes(mine)
    async with world.scene() as scene:
        await scene.node("node-a", {node_pb2_grpc.add_NodeServiceServicer_to_server: nodes})
        await eventually(lambda: _has_node(world))

        await mine.erased("hidden:4711ann")

    tenant_id = ids.encode(Prefix.TENANT, mine.tenant)
    assert nodes.told == [(tenant_id, [*ANNS], True), (tenant_id, [*ANNS], False)]


async def _has_node(world: RouterWorld) -> bool:
    return bool((await world.fleet.ListNodes(fleet_pb2.ListNodesRequest(), metadata=ADMIN)).nodes)


async def test_media_that_others_sent_too_and_those_the_person_quoted_stay(world: RouterWorld) -> None:
    mine, pool = await kept(world), world.database.pool
    shared, quoted, own = [await add_media(pool, mine.tenant) for _ in range(3)]
    contents: list[Any] = [
        {"image": {"media": {"media_id": ids.encode(Prefix.MEDIA, one)}}} for one in (shared, quoted, own)
    ]
    for sender, media, content in (
        (ANN, shared, contents[0]),
        (BOB, shared, contents[0]),
        (ANN, own, contents[2]),
        (ANN, own, contents[2]),
    ):
        stored = message_pb2.Message(sender=sender, content=content, network_time=EARLIER)
        message = await mine.message(sender["address"], stored)
        await refer(pool, media, RECEIVED, account=mine.account, message=message)
    quoting: Any = {"content": contents[1]}
    answer = message_pb2.Message(sender=ANN, content=TEXT, quoted=quoting, network_time=EARLIER)
    await mine.message("hidden:4711ann", answer)
    await mine.erased("hidden:4711ann")
    ended = [(await mine.row("media", one))["ended"] for one in (shared, quoted, own)]
    assert ended == [False, False, True]


async def test_media_that_the_person_took_back_go(world: RouterWorld) -> None:
    mine, pool = await kept(world), world.database.pool
    media, revoked = await add_media(pool, mine.tenant), cast(Any, {"revoked": {}})
    stored = message_pb2.Message(sender=ANN, content=revoked, network_time=EARLIER)
    message = await mine.message("hidden:4711ann", stored)
    await refer(pool, media, REVOKED, account=mine.account, message=message)
    await mine.erased("hidden:4711ann")
    assert (await mine.row("media", media))["ended"] is True


async def test_what_waits_to_be_sent_to_the_person_is_left_and_counted(world: RouterWorld) -> None:
    mine = await kept(world)
    waiting = await mine.sent("hidden:4711ann", status=QUEUED)
    job = await mine.erased("hidden:4711ann")
    assert (job.done, job.failed) == (1, 1)
    assert (await mine.row("message", waiting))["chat"] == "hidden:4711ann"


async def test_what_accounts_remember_of_the_person_is_exported_and_erased_and_connects_addresses(
    world: RouterWorld,
) -> None:
    mine = await kept(world)
    message = await mine.received("hidden:4711ann", {"address": "hidden:4711ann"})
    for address, phone, hidden, name in (
        ("hidden:4711ann", ANN["phone"], "4711ann", "Ann"),
        ("hidden:bob", BOB["phone"], "bob", "Bob"),
    ):
        await world.database.pool.execute(
            "INSERT INTO person_identity VALUES ($1, $2, $3, '', $4, '', $5, now())",
            mine.account,
            address,
            phone,
            hidden,
            name,
        )
    addresses, *frames = await mine.exported("phone:+4915112345678")
    assert [one.display_name for one in addresses.addresses.known_as] == ["Ann"]
    assert [frame.message.id for frame in frames] == [ids.encode(Prefix.MESSAGE, message)]
    await mine.erased("phone:+4915112345678")
    assert (await mine.row("message", message))["content"] == b""
    remembered = "SELECT array_agg(display_name) FROM person_identity WHERE account = $1"
    assert await world.database.pool.fetchval(remembered, mine.account) == ["Bob"]


async def test_what_accounts_keep_of_the_person_in_records_is_exported_and_erased(world: RouterWorld) -> None:
    mine = await kept(world)
    poll, ann, bob = new_uuid(), "phone:+4915112345678", str(BOB["address"])
    contact = Contact(full_name="Ann", person=Person(address="x")).SerializeToString()
    member = GroupMember(role=GROUP_ROLE_ADMIN).SerializeToString()
    vote = PollVoteContent(answers=["yes"]).SerializeToString()
    for kind, key, who, value in (
        (RecordKind.CONTACT, ann, "", contact),
        (RecordKind.CONTACT, bob, "", contact),
        (RecordKind.GROUP_MEMBER, "group:1", ann, member),
        (RecordKind.GROUP_MEMBER, "group:1", bob, member),
        (RecordKind.GROUP_JOIN_REQUEST, "group:2", ann, b"\xff no message"),
        (RecordKind.POLL_VOTE, poll.hex, ann, vote),
    ):
        await world.database.pool.execute(
            "INSERT INTO account_record VALUES ($1, $2, $3, $4, $5, now())",
            mine.account,
            kind,
            key,
            who,
            value,
        )
    _, *frames = await mine.exported(ann)
    shown = {frame.kept.WhichOneof("kind"): frame.kept for frame in frames}
    assert len(frames) == len(shown) == 3
    assert {one.account_id for one in shown.values()} == {ids.encode(Prefix.ACCOUNT, mine.account)}
    assert (shown["contact"].contact.full_name, shown["contact"].contact.person.address) == ("Ann", ann)
    assert (shown["member"].group, shown["member"].member.role) == ("group:1", GROUP_ROLE_ADMIN)
    assert shown["vote"].poll_id == ids.encode(Prefix.MESSAGE, poll)
    assert list(shown["vote"].vote.answers) == ["yes"]
    await mine.erased(ann)
    left = "SELECT count(*) FROM account_record WHERE account = $1"
    assert await world.database.pool.fetchval(left, mine.account) == 2


async def test_an_erased_person_has_no_chat_and_comes_back_in_none(world: RouterWorld) -> None:
    mine = await kept(world)
    await mine.received("hidden:4711ann", ANN)
    await mine.received("phone:+4915112345678", ANN)
    await mine.received(str(BOB["address"]), BOB)
    fold = "SELECT chat_fold($1, 100)"
    await world.database.pool.execute(fold, mine.account)
    chats = "SELECT array_agg(chat ORDER BY chat) FROM chat WHERE account = $1"
    assert len(await world.database.pool.fetchval(chats, mine.account)) == 3

    await mine.erased("hidden:4711ann")
    await world.database.pool.execute(fold, mine.account)

    assert await world.database.pool.fetchval(chats, mine.account) == [BOB["address"]]


async def test_an_erasure_that_another_router_began_knows_all_addresses(world: RouterWorld) -> None:
    mine = await kept(world)
    message = await mine.received("hidden:4711ann", {"address": "hidden:4711ann"})  # nothing connects it
    job = new_uuid()
    await world.database.pool.execute(
        "INSERT INTO job (id, tenant, kind, state, detail) VALUES ($1, $2, 9, 2, $3)",
        job,
        mine.tenant,
        json.dumps({"addresses": [*ANNS]}),
    )
    last = await ended(world, job_pb2.Job(id=ids.encode(Prefix.JOB, job)))
    assert (last.state, last.done) == (job_pb2.JOB_STATE_SUCCEEDED, 1)
    assert (await mine.row("message", message))["content"] == b""


async def test_addresses_are_stored_with_the_job_before_anything_is_erased(world: RouterWorld) -> None:
    mine = await kept(world)
    await mine.received("hidden:4711ann", ANN)
    await world.database.pool.execute(_SEE_DETAIL)
    await mine.erased("phone:+4915112345678")
    seen = await world.database.pool.fetchval("SELECT detail FROM seen_detail")
    assert json.loads(seen) == {"addresses": [*ANNS]}
    await world.database.pool.execute("DROP TRIGGER see_detail ON message; DROP TABLE seen_detail")


async def test_a_tenant_has_one_export_at_a_time(world: RouterWorld) -> None:
    mine, others = await kept(world), await kept(world)
    connection = await world.database.connect_direct()
    await connection.execute(LOCK_EXPORT, str(mine.tenant))
    refused = await failing(mine.exported("hidden:4711ann"))
    assert (refused.code, refused.reason) == (StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert len(await others.exported("hidden:4711ann")) == 1
    await connection.close()
    assert len(await mine.exported("hidden:4711ann")) == 1


async def test_callers_who_are_refused_hold_no_places_of_others(
    world: RouterWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere, others = await kept(world), await kept(world), await kept(world)
    learn, begun, go_on = person_rows.learn_all, asyncio.Event(), asyncio.Event()

    async def held(connection: Any, tenant: UUID, who: Identities) -> None:
        if tenant == here.tenant:
            begun.set()
            await go_on.wait()
        await learn(connection, tenant, who)

    async def ask_on(mine: Kept) -> None:
        while True:
            for refused in await asyncio.gather(*(failing(mine.exported(ANNS[0])) for _ in range(4))):
                assert refused.reason == "RATE_LIMITED"

    monkeypatch.setattr(person_rows, "learn_all", held)
    connection = await world.database.connect_direct()
    await connection.execute(LOCK_EXPORT, str(elsewhere.tenant))
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        first = group.create_task(here.exported(ANNS[0]), name="export")
        await begun.wait()
        refused = [group.create_task(ask_on(mine), name="refused exports") for mine in (here, elsewhere)]
        for _ in range(10):
            assert len(await others.exported(ANNS[0])) == 1
        for task in refused:
            task.cancel()
        go_on.set()
        assert len(await first) == 1
    await connection.close()


async def test_a_tenants_erasures_that_have_not_ended_are_bounded(world: RouterWorld) -> None:
    mine, others = await kept(world), await kept(world)
    await world.database.pool.executemany(  # without an address: they never end
        "INSERT INTO job (id, tenant, kind) VALUES ($1, $2, 9)",
        [(new_uuid(), mine.tenant) for _ in range(20)],
    )
    refused = await failing(mine.erased("hidden:4711ann"))
    assert (refused.code, refused.reason) == (StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    await world.database.pool.execute("DELETE FROM job WHERE tenant = $1", mine.tenant)
    assert (await others.erased("hidden:4711ann")).state == job_pb2.JOB_STATE_SUCCEEDED


async def test_a_group_is_no_person(world: RouterWorld) -> None:
    mine = await kept(world)
    refused = await failing(mine.erased(GROUP))
    assert (refused.code, refused.field) == (StatusCode.INVALID_ARGUMENT, "address")


_SEE_DETAIL = """
CREATE TABLE seen_detail (detail jsonb);
CREATE FUNCTION see_detail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO seen_detail SELECT detail FROM job WHERE kind = 9 AND end_time IS NULL;
  RETURN NULL;
END $$;
CREATE TRIGGER see_detail AFTER UPDATE ON message FOR EACH STATEMENT EXECUTE FUNCTION see_detail();
"""
