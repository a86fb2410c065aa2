"""Chats and labels of an account, through a real node on the simulated network."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio

from mesh_core.rpc.server.status import from_rpc_error
from mesh_simulator.ledger.records import Kind
from mesh_simulator.service import SimulatorServicer
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.simulator.v1 import simulator_pb2
from sessionmesh.v1 import chat_pb2, chat_pb2_grpc
from tests.support.eventually import eventually
from tests.support.message_acts import act, received, ref, sent, written_to
from tests.support.session_node_stage import RECIPIENT, Account, NodeProcess, Stage, open_stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADA, BOB = f"phone:{RECIPIENT}", "phone:+4915112345602"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(stage: Stage) -> NodeProcess:
    (node,) = await stage.running_nodes(1)
    return node


async def ask(stage: Stage, node: NodeProcess, account: Account, method: str, **fields: Any) -> Any:
    kind = getattr(chat_pb2, f"{method}Request")
    if "request_id" in kind.DESCRIPTOR.fields_by_name:
        fields.setdefault("request_id", secrets.token_hex(8))
    request = kind(account_id=account.id, **fields)
    stub = chat_pb2_grpc.ChatServiceStub(node.channel)
    return await getattr(stub, method)(request, metadata=stage.metadata, timeout=20)


async def refused(stage: Stage, node: NodeProcess, account: Account, method: str, **fields: Any) -> list[str]:
    """Code, reason and, where there is one, field of the error that a call is answered with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(stage, node, account, method, **fields)
    error = from_rpc_error(caught.value)
    named = [caught.value.code().name, error.reason, getattr(error, "field", "")]
    return [part for part in named if part]


async def chat(stage: Stage, node: NodeProcess, account: Account, address: str = ADA) -> Any:
    return (await ask(stage, node, account, "GetChat", address=address)).chat


async def listed(stage: Stage, node: NodeProcess, account: Account, **filters: Any) -> list[str]:
    return [one.address for one in (await ask(stage, node, account, "ListChats", **filters)).chats]


async def update(
    stage: Stage, node: NodeProcess, account: Account, path: str, value: Any, address: str = ADA
) -> Any:
    fields = {"chat": {"address": address, path: value}, "update_mask": {"paths": [path]}}
    return (await ask(stage, node, account, "UpdateChat", **fields)).chat


async def on_phone(stage: Stage, account: Account, chat: str = ADA, **act: Any) -> None:
    """Somebody does something on the account's phone."""
    request = simulator_pb2.ActOnPhoneRequest(phone=account.phone, chat=chat, **act)
    await SimulatorServicer(stage.network).ActOnPhone(request, None)  # type: ignore[arg-type]  # unused


async def until(stage: Stage, account: Account, type_: str) -> Any:
    return await received(stage, account, type_)


def app_state(stage: Stage, account: Account) -> dict[str, bytes]:
    """What the account's devices have in common, without what holds no more."""
    state = stage.on_network(account).app_state or {}
    return {name: value.value for name, value in state.items() if value.value}


# --- showing


@pytest.mark.read_back("GetChat", "ListChats")
async def test_chats_are_listed_by_their_last_message(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    mine = await sent(stage, node, account, BOB)
    came = await written_to(stage, account)

    found = (await ask(stage, node, account, "ListChats")).chats

    assert [one.address for one in found] == [ADA, BOB]
    assert [one.unread_count for one in found] == [1, 0]
    assert [one.last_message.id for one in found] == [came.id, mine.id]
    assert found[0].name == "Ada"
    assert found[0].person.phone == RECIPIENT
    assert not found[0].last_message.HasField("content")
    assert await chat(stage, node, account) == found[0]


async def test_chats_are_listed_page_by_page(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    people = [f"phone:+49151000{at:05}" for at in range(5)]
    for person in people:
        await stage.send(node, account, recipient=person)

    pages, token = [], ""
    while True:
        page = await ask(stage, node, account, "ListChats", page_size=2, page_token=token)
        pages.append([one.address for one in page.chats])
        if not (token := page.next_page_token):
            break

    assert pages == [people[:2:-1], [people[2], people[1]], [people[0]]]


async def test_what_is_filtered_out_is_not_listed(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    await sent(stage, node, account, BOB)
    await written_to(stage, account)
    assert await listed(stage, node, account, unread_only=True) == [ADA]

    await update(stage, node, account, "archived", True)

    assert await listed(stage, node, account) == [BOB]
    assert await listed(stage, node, account, show_archived=True) == [ADA, BOB]
    assert await listed(stage, node, account, label_id="7") == []


async def test_reactions_are_no_messages_of_a_chat(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    came = await written_to(stage, account)
    reaction = wire.Content(reaction=wire.Reaction(id=came.network_message_id, sender=ADA, emoji="x"))

    stage.receive(account, reaction)
    await until(stage, account, "message.reaction")

    found = await chat(stage, node, account)
    assert (found.unread_count, found.last_message.id) == (1, came.id)


async def test_chats_outlive_their_messages_and_the_node(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    came = await written_to(stage, account)
    before = await chat(stage, node, account)
    await stage.database.execute("DELETE FROM message WHERE account = $1", account.uuid)

    after = await chat(stage, node, account)

    assert after.last_message.id == came.id
    assert after.last_message.create_time == before.last_message.create_time
    assert (after.unread_count, after.etag) == (1, before.etag)


async def test_thousands_of_messages_are_counted_once(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    await written_to(stage, account)
    await stage.database.execute(
        """INSERT INTO message (id, account, epoch, direction, origin, status, chat, content, network_time)
           SELECT (substr(uuid_at(now())::text, 1, 24) || lpad(to_hex(n), 12, '0'))::uuid, $1, 1, 2, 0, 0,
             'phone:+4917' || lpad((n % 1500)::text, 6, '0'), '', now()
           FROM generate_series(1, 6000) AS n""",
        account.uuid,
    )

    first = await ask(stage, node, account, "ListChats", page_size=1000)
    again = await ask(stage, node, account, "ListChats", page_size=1000)

    assert len(first.chats) == 1000
    assert {one.unread_count for one in first.chats if one.address != ADA} == {4}
    assert again.chats == first.chats


# --- changing


@pytest.mark.read_back("UpdateChat")
async def test_a_chat_is_changed_on_the_accounts_devices(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    await written_to(stage, account)

    await update(stage, node, account, "mute_until", {"seconds": 4_000_000_000})
    await update(stage, node, account, "pinned", True)
    await update(stage, node, account, "marked_unread", True)
    changed = await update(stage, node, account, "disappear_after", {"seconds": 86_400})

    assert changed == await chat(stage, node, account)
    assert (changed.pinned, changed.marked_unread, changed.archived) == (True, True, False)
    assert (changed.mute_until.seconds, changed.disappear_after.seconds) == (4_000_000_000, 86_400)
    assert set(app_state(stage, account)) == {f"mute/{ADA}", f"pin/{ADA}", f"unread/{ADA}"}
    event = await received(stage, account, "chat.updated", lambda one: one.chat.chat.disappear_after.seconds)
    assert event.chat.chat == changed


async def test_a_chat_that_is_put_away_is_not_pinned(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    await update(stage, node, account, "pinned", True)

    changed = await update(stage, node, account, "archived", True)

    assert (changed.archived, changed.pinned) == (True, False)


async def test_a_change_upon_what_another_device_changed_meanwhile_is_made_again(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    await update(stage, node, account, "pinned", True)
    await on_phone(stage, account, BOB, archive=True)

    await update(stage, node, account, "pinned", False)

    assert app_state(stage, account) == {f"archive/{BOB}": b"1"}
    assert len(stage.records(Kind.APP_STATE_CHANGED, account)) == 3


async def test_a_change_is_refused_with_an_etag_that_is_not_the_present_one(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    old = (await update(stage, node, account, "pinned", True)).etag
    await update(stage, node, account, "archived", True)

    fields = {"chat": {"address": ADA, "pinned": True, "etag": old}, "update_mask": {"paths": ["pinned"]}}
    said = await refused(stage, node, account, "UpdateChat", **fields)

    assert said == ["ABORTED", "ETAG_MISMATCH"]
    assert await refused(stage, node, account, "DeleteChat", address=ADA, etag=old) == said


async def test_what_was_set_before_something_was_refused_is_stored(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    number = "+4915112345666"
    nobody = f"phone:{number}"
    stage.receive(account, wire.Content(text="hello"), sender=number)
    await until(stage, account, "message.received")
    stage.network.directory.unregistered.add(number)
    changed = {"address": nobody, "archived": True, "disappear_after": {"seconds": 60}}
    paths = ["archived", "disappear_after"]

    said = await refused(stage, node, account, "UpdateChat", chat=changed, update_mask={"paths": paths})

    assert said[0] == "FAILED_PRECONDITION"
    assert app_state(stage, account) == {f"archive/{nobody}": b"1"}
    found = await chat(stage, node, account, nobody)
    assert (found.archived, found.HasField("disappear_after")) == (True, False)


async def test_chats_that_cannot_be_changed_say_why(stage: Stage, node: NodeProcess) -> None:
    account, foreign = await stage.paired(node), await stage.of_another_tenant()

    async def said(about: Account = account, path: str = "pinned", **chat: Any) -> list[str]:
        fields = {"chat": {"address": ADA, **chat}, "update_mask": {"paths": [path]}}
        return await refused(stage, node, about, "UpdateChat", **fields)

    invalid = ["INVALID_ARGUMENT", "INVALID_FIELD"]
    assert await said(address="status") == [*invalid, "chat.address"]
    assert await said(path="name") == [*invalid, "update_mask"]
    assert await said(path="disappear_after", address="group:1") == [*invalid, "chat.disappear_after"]
    too_long = {"seconds": 91 * 86_400}
    assert await said(path="disappear_after", disappear_after=too_long) == [*invalid, "chat.disappear_after"]
    assert await said(foreign) == ["NOT_FOUND", "RESOURCE_NOT_FOUND"]
    assert await said(await stage.create_account()) == ["FAILED_PRECONDITION", "NOT_PAIRED"]
    for method in ("GetChat", "ClearChat", "DeleteChat", "MarkChatRead"):
        nowhere = await refused(stage, node, account, method, address="phone:+491500000009")
        assert nowhere == ["NOT_FOUND", "RESOURCE_NOT_FOUND"]


@pytest.mark.read_back("ClearChat")
async def test_a_cleared_chat_stays_without_messages(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    await written_to(stage, account)
    request = {"address": ADA, "request_id": "same"}

    await ask(stage, node, account, "ClearChat", **request)
    await ask(stage, node, account, "ClearChat", **request)

    found = await chat(stage, node, account)
    assert (found.HasField("last_message"), found.unread_count) == (False, 0)
    assert app_state(stage, account) == {f"clear/{ADA}": b"1"}
    assert len(stage.records(Kind.APP_STATE_CHANGED, account)) == 1
    await until(stage, account, "chat.cleared")


@pytest.mark.read_back("DeleteChat")
async def test_a_deleted_chat_comes_back_with_its_next_message(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    await written_to(stage, account)
    await update(stage, node, account, "pinned", True)

    await ask(stage, node, account, "DeleteChat", address=ADA)
    assert await listed(stage, node, account, show_archived=True) == []
    await until(stage, account, "chat.deleted")

    again = await written_to(stage, account)
    found = await chat(stage, node, account)
    assert (found.last_message.id, found.unread_count, found.pinned) == (again.id, 1, False)


# --- reading


@pytest.mark.read_back("MarkChatRead")
async def test_a_chat_is_read_and_its_writers_are_told(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    came = [await written_to(stage, account) for _ in range(3)]
    await update(stage, node, account, "marked_unread", True)

    found = (await ask(stage, node, account, "MarkChatRead", address=ADA)).chat

    assert (found.unread_count, found.marked_unread) == (0, False)
    assert found == await chat(stage, node, account)
    told = [record.id for record in stage.records(Kind.READ_REPORTED, account)]
    assert sorted(told) == sorted(one.network_message_id for one in came)
    await written_to(stage, account)
    assert (await chat(stage, node, account)).unread_count == 1


async def test_reading_a_chat_is_one_act_however_many_wrote(
    postgres_url: str, etcd: str, tmp_path: Path
) -> None:
    async with open_stage(postgres_url, etcd, tmp_path) as stage:
        node = await stage.start_node(MESH_SESSION_ACTS_PER_MINUTE="5")
        account = await stage.paired(node)
        group = "group:120363000000000077"
        for writer in range(10):
            message = wire.Inbound(
                sender=f"phone:+49151112233{writer:02}",
                chat=group,
                content=wire.Content(text="hello").SerializeToString(),
            )
            stage.network.inbound.offer(stage.on_network(account), message)
        stage.network.flush()

        async def came() -> bool:
            return [type_ for type_, _ in await stage.events(account)].count("message.received") == 10

        await eventually(came)

        assert (await ask(stage, node, account, "MarkChatRead", address=group)).chat.unread_count == 0
        assert len(stage.records(Kind.READ_REPORTED, account)) == 10


async def test_what_is_read_one_by_one_is_counted_no_more(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    came = [await written_to(stage, account) for _ in range(3)]
    assert (await chat(stage, node, account)).unread_count == 3

    await act(stage, node, account, "MarkRead", messages=[ref(came[1])])

    assert (await chat(stage, node, account)).unread_count == 1


async def test_what_the_phone_has_read_is_counted_no_more(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    came = [await written_to(stage, account) for _ in range(3)]

    await on_phone(stage, account, read=came[1].network_message_id)
    event = await until(stage, account, "chat.updated")
    assert event.chat.chat.unread_count == 1
    assert (await chat(stage, node, account)).unread_count == 1
    await on_phone(stage, account, read="")

    async def read() -> bool:
        return bool((await chat(stage, node, account)).unread_count == 0)

    await eventually(read)


async def test_what_the_phone_reads_as_it_comes_is_counted_no_more(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    came = [stage.receive(account, wire.Content(text="hello")) for _ in range(20)]
    await on_phone(stage, account, read=came[-1])

    async def stored() -> bool:
        return [type_ for type_, _ in await stage.events(account)].count("message.received") == 20

    async def read() -> bool:
        return bool((await chat(stage, node, account)).unread_count == 0)

    await eventually(stored)
    await eventually(read)


# --- on the phone


async def test_what_the_phone_does_with_a_chat_is_an_event(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    await written_to(stage, account)
    until_us = (int(time.time()) + 3600) * 1_000_000

    await on_phone(stage, account, mute_until_us=until_us)
    await on_phone(stage, account, pin=True)
    await on_phone(stage, account, mark_unread=True)
    await on_phone(stage, account, disappear_after_seconds=604_800)
    await on_phone(stage, account, archive=True)

    event = await received(stage, account, "chat.updated", lambda one: one.chat.chat.archived)
    shown = event.chat.chat
    assert shown == await chat(stage, node, account)
    assert (shown.mute_until.ToMicroseconds(), shown.disappear_after.seconds) == (until_us, 604_800)
    assert (shown.marked_unread, shown.pinned) == (True, False)
    await on_phone(stage, account, clear=True)
    await until(stage, account, "chat.cleared")
    await on_phone(stage, account, delete=True)
    await until(stage, account, "chat.deleted")
    assert await listed(stage, node, account, show_archived=True) == []


async def test_what_came_after_the_phone_emptied_a_chat_stays(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    await written_to(stage, account)
    last = await written_to(stage, account)
    earlier = last.network_time.ToMicroseconds() - 60_000_000

    await on_phone(stage, account, clear=True, until_us=earlier)  # it is told late
    await on_phone(stage, account, delete=True, until_us=earlier)
    await on_phone(stage, account, read="", until_us=earlier)
    await on_phone(stage, account, pin=True)

    await received(stage, account, "chat.updated", lambda one: one.chat.chat.pinned)
    found = await chat(stage, node, account)
    assert (found.last_message.id, found.unread_count) == (last.id, 2)
    await on_phone(stage, account, clear=True, until_us=last.network_time.ToMicroseconds())
    await until(stage, account, "chat.cleared")


# --- labels


@pytest.mark.read_back("CreateLabel", "ListLabels", "UpdateLabel", "DeleteLabel", "SetChatLabel")
async def test_labels_are_made_changed_put_on_chats_and_deleted(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    await written_to(stage, account)
    label = (await ask(stage, node, account, "CreateLabel", name="New", color=3)).label
    assert (await ask(stage, node, account, "CreateLabel", name="New")).label == label

    fields = {
        "label": {"id": label.id, "name": "Old", "etag": label.etag},
        "update_mask": {"paths": ["name"]},
    }
    changed = (await ask(stage, node, account, "UpdateLabel", **fields)).label
    assert (changed.name, changed.color) == ("Old", 3)
    assert await refused(stage, node, account, "UpdateLabel", **fields) == ["ABORTED", "ETAG_MISMATCH"]
    assert list((await ask(stage, node, account, "ListLabels")).labels) == [changed]

    put = {"chat": ADA, "label_id": label.id, "labelled": True}
    shown = (await ask(stage, node, account, "SetChatLabel", **put)).chat
    assert list(shown.label_ids) == [label.id]
    assert await listed(stage, node, account, label_id=label.id) == [ADA]
    told = await until(stage, account, "label.assignment_changed")
    assert (told.label_assignment.chat, told.label_assignment.labelled) == (ADA, True)

    await ask(stage, node, account, "DeleteLabel", label_id=label.id)
    assert list((await ask(stage, node, account, "ListLabels")).labels) == []
    assert list((await chat(stage, node, account)).label_ids) == []
    await until(stage, account, "label.deleted")
    assert await refused(stage, node, account, "SetChatLabel", **put) == ["NOT_FOUND", "RESOURCE_NOT_FOUND"]


@pytest.mark.read_back("SetMessageLabel")
async def test_a_label_is_put_on_a_message(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    came = await written_to(stage, account)
    label = (await ask(stage, node, account, "CreateLabel", name="Paid")).label

    fields = {"message": {"message_id": came.id}, "label_id": label.id, "labelled": True}
    await ask(stage, node, account, "SetMessageLabel", **fields)

    name = f"label-message/{label.id}/{ADA}/{came.network_message_id}"
    assert app_state(stage, account)[name] == b"1"
    told = await until(stage, account, "label.assignment_changed")
    assert told.label_assignment.message.message_id == came.id


async def test_labels_of_the_phone_are_events(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    await written_to(stage, account)

    await on_phone(stage, account, label={"id": "9", "name": "Lead", "color": 2})
    made = (await until(stage, account, "label.created")).label.label
    await on_phone(stage, account, labelling={"label_id": "9", "labelled": True})
    await until(stage, account, "label.assignment_changed")

    assert (made.id, made.name, made.color) == ("9", "Lead", 2)
    assert list((await chat(stage, node, account)).label_ids) == ["9"]
    await on_phone(stage, account, label={"id": "9", "deleted": True})
    await until(stage, account, "label.deleted")
    assert list((await chat(stage, node, account)).label_ids) == []


async def test_labels_that_cannot_be_made_say_why(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    invalid = ["INVALID_ARGUMENT", "INVALID_FIELD"]

    assert await refused(stage, node, account, "CreateLabel", name="x" * 101) == [*invalid, "name"]
    assert await refused(stage, node, account, "CreateLabel", name="x", color=-1) == [*invalid, "color"]
    unknown = await refused(stage, node, account, "DeleteLabel", label_id="77")
    assert unknown == ["NOT_FOUND", "RESOURCE_NOT_FOUND"]


# --- one person


def inbound(stage: Stage, account: Account, chat: str, text: str = "hello") -> str:
    """Somebody writes to the account under one of their addresses; the network's id of the message."""
    message = wire.Inbound(sender=chat, chat=chat, content=wire.Content(text=text).SerializeToString())
    stage.network.inbound.offer(stage.on_network(account), message)
    stage.network.flush()
    return message.id


async def came(stage: Stage, account: Account, network_id: str) -> Any:
    def is_it(event: Any) -> bool:
        return bool(event.message.message.network_message_id == network_id)

    return (await received(stage, account, "message.received", is_it)).message.message


async def test_a_person_who_wrote_under_a_number_and_a_hidden_id_is_one_chat(
    stage: Stage, node: NodeProcess
) -> None:
    account, number = await stage.paired(node), "+4915112345671"
    phone, hidden = f"phone:{number}", stage.network.directory
    hidden.hidden.add(number)
    unknown = f"hidden:{hidden.reveal_hidden_id(number)}"
    ids = [inbound(stage, account, unknown), inbound(stage, account, unknown)]
    for network_id in ids:
        await came(stage, account, network_id)
    await update(stage, node, account, "pinned", True, unknown)
    label = (await ask(stage, node, account, "CreateLabel", name="One person")).label
    await ask(stage, node, account, "SetChatLabel", chat=unknown, label_id=label.id, labelled=True)
    assert await listed(stage, node, account) == [unknown]

    hidden.hidden.discard(number)  # they show it
    ids.append(inbound(stage, account, phone))
    last = await came(stage, account, ids[-1])

    assert await listed(stage, node, account) == [phone]
    found = await chat(stage, node, account, unknown)
    assert found == await chat(stage, node, account, phone)
    assert (found.unread_count, found.last_message.id, found.pinned) == (3, last.id, True)
    assert list(found.label_ids) == [label.id]
    assert await listed(stage, node, account, label_id=label.id) == [phone]
    both = (await act(stage, node, account, "ListMessages", chat=unknown)).messages
    assert {one.network_message_id for one in both} == {*ids}

    found = (await ask(stage, node, account, "MarkChatRead", address=unknown)).chat

    assert (found.address, found.unread_count) == (phone, 0)
    told = [record.id for record in stage.records(Kind.READ_REPORTED, account)]
    assert sorted(told) == sorted(ids)
    ids.append(inbound(stage, account, unknown))
    message = await came(stage, account, ids[-1])
    assert (await chat(stage, node, account, phone)).unread_count == 1
    await act(stage, node, account, "MarkRead", messages=[ref(message)])
    assert (await chat(stage, node, account, phone)).unread_count == 0
    await ask(stage, node, account, "SetChatLabel", chat=phone, label_id=label.id)
    await update(stage, node, account, "pinned", False, unknown)
    found = await chat(stage, node, account, phone)
    assert (found.pinned, list(found.label_ids)) == (False, [])
    await ask(stage, node, account, "DeleteChat", address=unknown)
    assert await listed(stage, node, account, show_archived=True) == []


async def test_a_message_is_read_that_no_chat_has_counted_yet(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    message = await written_to(stage, account)

    await act(stage, node, account, "MarkRead", messages=[ref(message)])

    assert (await chat(stage, node, account)).unread_count == 0
