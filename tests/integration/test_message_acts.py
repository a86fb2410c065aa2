"""Acts on messages that are there, through a real node: what changes, what is told, what is refused, and
why.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

import pytest

from mesh_core.ids import Prefix, new_id
from mesh_simulator.accounts.account import Behaviour
from mesh_simulator.ledger.records import Kind
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import message_pb2
from tests.support.eventually import eventually
from tests.support.message_acts import act, received, ref, refusal, saw, sent, words, written_to
from tests.support.session_node_stage import RECIPIENT, Account, NodeProcess, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

STRANGER = "phone:+4915112345699"


def group_of(stage: Stage, *members: Account, admins: Sequence[Account] = ()) -> str:
    """The address of a new group."""
    directory = stage.network.directory
    phones = {member.phone: member in admins for member in members} | {RECIPIENT: False}
    group = directory.create_group(secrets.token_hex(8), "Group", phones)
    return f"group:{group.group_id}"


# --- editing


@pytest.mark.read_back("EditMessage")
async def test_an_edit_is_stored_told_and_brought_to_who_got_the_message(
    stage: Stage, node: NodeProcess
) -> None:
    account, other = await stage.paired(node), await stage.paired(node)
    message = await sent(stage, node, account, other.phone)

    edited = await act(stage, node, account, "EditMessage", message=ref(message), content=words("better"))

    assert edited.message.content.text.body == "better"
    stored = await stage.message(message.id, account, node)
    assert stored.content.text.body == "better"
    assert stored.HasField("edit_time")
    assert (await received(stage, account, "message.edited")).message_changed.message == stored
    told = (await received(stage, other, "message.edited")).message_changed.message
    assert told.content.text.body == "better"
    assert told.network_message_id == message.network_message_id


async def test_the_same_edit_again_is_answered_as_the_first_one_was(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    message = await sent(stage, node, account)
    request = {"message": ref(message), "content": words("one"), "request_id": "edit"}

    first = await act(stage, node, account, "EditMessage", **request)
    await act(stage, node, account, "EditMessage", message=ref(message), content=words("two"))
    again = await act(stage, node, account, "EditMessage", **request)

    assert again == first
    assert (await stage.message(message.id, account, node)).content.text.body == "two"
    assert len(stage.records(Kind.MESSAGE_CHANGED, account)) == 2
    other = {**request, "content": words("three")}
    assert (await refusal(stage, node, account, "EditMessage", **other))[:2] == (
        "ALREADY_EXISTS",
        "REQUEST_ID_REUSED",
    )


async def test_the_same_edit_twice_at_once_is_made_once(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    message = await sent(stage, node, account)
    request = {"message": ref(message), "content": words("one"), "request_id": "edit"}

    answers = await asyncio.gather(*(act(stage, node, account, "EditMessage", **request) for _ in range(3)))

    assert answers[0] == answers[1] == answers[2]
    assert len(stage.records(Kind.MESSAGE_CHANGED, account)) == 1


async def test_an_edit_too_late_leaves_the_message_as_it_was(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    message = await sent(stage, node, account)
    stage.network.directory.set_own_behaviour(stage.on_network(account), Behaviour(edit_within=0.0))

    late = await refusal(stage, node, account, "EditMessage", message=ref(message), content=words("late"))

    assert late[:2] == ("FAILED_PRECONDITION", "TOO_LATE")
    assert (await stage.message(message.id, account, node)).content.text.body == "hello"


async def test_what_cannot_be_edited_says_why(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    message, came = await sent(stage, node, account), await written_to(stage, account)
    poll = {"poll": {"question": "Which?", "answers": ["One", "Another"]}}
    image = {"image": {"media": {"media_id": new_id(Prefix.MEDIA)}}}
    nobody = {"message_id": new_id(Prefix.MESSAGE)}
    of_the_network = {"network_message_id": "GONE", "chat": f"phone:{RECIPIENT}", "from_account": True}

    async def said(about: dict[str, Any], content: dict[str, Any]) -> tuple[str, str, str]:
        return await refusal(stage, node, account, "EditMessage", message=about, content=content)

    assert await said(ref(came), words("x")) == ("INVALID_ARGUMENT", "INVALID_FIELD", "message")
    assert await said(ref(message), poll) == ("INVALID_ARGUMENT", "INVALID_FIELD", "content.poll")
    assert await said(ref(message), image) == ("INVALID_ARGUMENT", "INVALID_FIELD", "content.image")
    assert await said(ref(message), words("")) == ("INVALID_ARGUMENT", "INVALID_FIELD", "content.text.body")
    assert (await said(nobody, words("x")))[:2] == ("NOT_FOUND", "RESOURCE_NOT_FOUND")
    assert (await said(of_the_network, words("x")))[:2] == ("NOT_FOUND", "RESOURCE_NOT_FOUND")


# --- taking back


@pytest.mark.read_back("RevokeMessage")
async def test_what_is_taken_back_is_gone_everywhere(stage: Stage, node: NodeProcess) -> None:
    account, other = await stage.paired(node), await stage.paired(node)
    message = await sent(stage, node, account, other.phone)

    revoked = await act(stage, node, account, "RevokeMessage", message=ref(message), request_id="revoke")

    assert revoked.message.content.revoked.actor.phone == account.phone
    assert (await stage.message(message.id, account, node)).content == revoked.message.content
    assert (await received(stage, account, "message.revoked")).message_changed.message.id == message.id
    told = (await received(stage, other, "message.revoked")).message_changed.message
    assert told.network_message_id == message.network_message_id
    assert (
        await act(stage, node, account, "RevokeMessage", message=ref(message), request_id="revoke") == revoked
    )
    again = await refusal(stage, node, account, "RevokeMessage", message=ref(message))
    assert again[:2] == ("FAILED_PRECONDITION", "MESSAGE_STATE")
    edit = await refusal(stage, node, account, "EditMessage", message=ref(message), content=words("x"))
    assert edit[:2] == ("FAILED_PRECONDITION", "MESSAGE_STATE")


async def test_only_an_administrator_takes_back_what_others_wrote_in_a_group(
    stage: Stage, node: NodeProcess
) -> None:
    chief, member, writer = [await stage.paired(node) for _ in range(3)]
    group = group_of(stage, chief, member, writer, admins=[chief])
    message = await sent(stage, node, writer, group)
    network_id = message.network_message_id

    def is_it(event: Any) -> bool:
        return bool(event.message.message.network_message_id == network_id)

    at_member = (await received(stage, member, "message.received", is_it)).message.message
    at_chief = (await received(stage, chief, "message.received", is_it)).message.message

    refused = await refusal(stage, node, member, "RevokeMessage", message=ref(at_member))
    assert refused[:2] == ("FAILED_PRECONDITION", "NOT_AN_ADMIN")
    await act(stage, node, chief, "RevokeMessage", message=ref(at_chief))

    told = (await received(stage, writer, "message.revoked")).message_changed.message
    assert told.id == message.id
    assert told.content.revoked.actor.phone == chief.phone


async def test_who_left_the_group_takes_nothing_back(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    group = group_of(stage, account)
    message = await sent(stage, node, account, group)
    del stage.network.directory.groups[group.removeprefix("group:")].members[account.phone]

    refused = await refusal(stage, node, account, "RevokeMessage", message=ref(message))

    assert refused[:2] == ("FAILED_PRECONDITION", "NOT_A_MEMBER")


# --- reacting and sending on


@pytest.mark.read_back("ReactToMessage")
async def test_a_reaction_is_a_message_of_its_own_and_can_be_removed(stage: Stage, node: NodeProcess) -> None:
    account, other = await stage.paired(node), await stage.paired(node)
    message = await sent(stage, node, account, other.phone)

    reacted = await act(stage, node, account, "ReactToMessage", message=ref(message), emoji="\U0001f44d")
    await act(stage, node, account, "ReactToMessage", message=ref(message))

    assert reacted.message.content.reaction.emoji == "\U0001f44d"
    assert reacted.message.id not in ("", message.id)
    told = await received(stage, other, "message.reaction", lambda event: event.reaction.emoji)
    removed = await received(stage, other, "message.reaction", lambda event: not event.reaction.emoji)
    for event in (told, removed):
        assert event.reaction.message.network_message_id == message.network_message_id
    words_for_emoji = await refusal(stage, node, account, "ReactToMessage", message=ref(message), emoji="yes")
    assert words_for_emoji == ("INVALID_ARGUMENT", "INVALID_FIELD", "emoji")


@pytest.mark.read_back("ForwardMessage")
async def test_a_message_is_sent_on_to_several_once_per_request(stage: Stage, node: NodeProcess) -> None:
    account, first, second = [await stage.paired(node) for _ in range(3)]
    came = await written_to(stage, account)
    request = {"message": ref(came), "recipients": [first.phone, second.phone], "request_id": "forward"}

    answers = [await act(stage, node, account, "ForwardMessage", **request) for _ in range(2)]

    assert [one.id for one in answers[0].messages] == [one.id for one in answers[1].messages]
    assert [one.chat for one in answers[0].messages] == [f"phone:{first.phone}", f"phone:{second.phone}"]
    for other in (first, second):
        told = (await received(stage, other, "message.received")).message.message
        assert (told.content.text.body, told.options.forward_score) == ("hello", 1)
    assert len(stage.records(Kind.ACCEPTED, account)) == 2


async def test_what_cannot_be_sent_on_says_why(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    message = await sent(stage, node, account)
    await act(stage, node, account, "RevokeMessage", message=ref(message))
    came = await written_to(stage, account)

    async def said(about: Any, *recipients: str) -> tuple[str, str, str]:
        return await refusal(
            stage, node, account, "ForwardMessage", message=ref(about), recipients=recipients
        )

    assert (await said(message, STRANGER))[:2] == ("FAILED_PRECONDITION", "MESSAGE_STATE")
    assert (await said(came))[2] == "recipients"
    assert (await said(came, STRANGER, STRANGER))[2] == "recipients"
    assert (await said(came, STRANGER, "nobody"))[2] == "recipients[1]"


# --- what the account's devices and the other side see


@pytest.mark.read_back("MarkRead", "MarkPlayed")
async def test_messages_are_told_to_be_read_and_played(stage: Stage, node: NodeProcess) -> None:
    account, other = await stage.paired(node), await stage.paired(node)
    message = await sent(stage, node, other, account.phone)

    def is_it(event: Any) -> bool:
        return bool(event.message.message.network_message_id == message.network_message_id)

    came = (await received(stage, account, "message.received", is_it)).message.message

    await act(stage, node, account, "MarkRead", messages=[ref(came)])

    await stage.until_status(node, other, message.id, message_pb2.MESSAGE_STATUS_READ)
    not_played = await refusal(stage, node, account, "MarkPlayed", messages=[ref(came)])
    assert not_played == ("INVALID_ARGUMENT", "INVALID_FIELD", "messages[0]")
    of_the_network = {
        "network_message_id": message.network_message_id,
        "chat": came.chat,
        "sender": came.sender.address,
    }
    voice = wire.Content(blob=wire.Blob(ref="0" * 64, shown_as="voice_note", mime="audio/ogg"))
    note = await written_to(stage, account, voice)
    await act(stage, node, account, "MarkPlayed", messages=[ref(note)])
    await saw(stage, account, f"played {note.network_message_id}")
    await act(stage, node, account, "MarkRead", messages=[of_the_network])
    own = await refusal(stage, node, other, "MarkRead", messages=[ref(message)])
    assert own == ("INVALID_ARGUMENT", "INVALID_FIELD", "messages[0]")


@pytest.mark.read_back("SetMessageStarred", "SetMessagePinned", "DeleteMessageForMe", "SetTyping")
async def test_stars_pins_deletions_and_typing_reach_the_network(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    message = await sent(stage, node, account)
    network_id = message.network_message_id

    def app_state() -> dict[str, bytes]:
        found = stage.on_network(account).app_state or {}
        return {name: entry.value for name, entry in found.items() if entry.value}

    await act(stage, node, account, "SetMessageStarred", message=ref(message), starred=True)
    starred = f"star/phone:{RECIPIENT}/{network_id}"
    assert app_state() == {starred: b"1"}
    await act(stage, node, account, "SetMessageStarred", message=ref(message), starred=False)
    await act(stage, node, account, "DeleteMessageForMe", message=ref(message), delete_media=True)
    assert app_state() == {f"deleted/phone:{RECIPIENT}/{network_id}": b"with media"}
    await act(stage, node, account, "SetMessagePinned", message=ref(message), pinned=True)
    await saw(stage, account, f"pin {network_id}")
    typing = message_pb2.TYPING_STATE_RECORDING
    await act(stage, node, account, "SetTyping", chat=RECIPIENT, state=typing)
    await saw(stage, account, "recording")


async def test_a_pin_that_nobody_can_set_says_so(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    message = await sent(stage, node, account)
    pinned = {"message": ref(message), "pinned": True, "duration": {"seconds": 3600}}
    assert (await refusal(stage, node, account, "SetMessagePinned", **pinned))[2] == "duration"
    typed = {"chat": "status", "state": message_pb2.TYPING_STATE_TYPING}
    assert (await refusal(stage, node, account, "SetTyping", **typed))[2] == "chat"


async def test_acts_for_another_tenants_account_find_none(stage: Stage, node: NodeProcess) -> None:
    foreign = await stage.of_another_tenant()
    about = {"network_message_id": "X", "chat": STRANGER}
    acts: dict[str, dict[str, Any]] = {
        "EditMessage": {"message": about, "content": words("x")},
        "RevokeMessage": {"message": about},
        "ReactToMessage": {"message": about},
        "ForwardMessage": {"message": about, "recipients": [STRANGER]},
        "MarkRead": {"messages": [about]},
        "MarkPlayed": {"messages": [about]},
        "SetMessageStarred": {"message": about},
        "SetMessagePinned": {"message": about},
        "DeleteMessageForMe": {"message": about},
        "UpdateLiveLocation": {"message": about, "end": True},
        "SetTyping": {"chat": STRANGER, "state": 2},
    }
    for method, fields in acts.items():
        refused = await refusal(stage, node, foreign, method, **fields)
        assert refused[:2] == ("NOT_FOUND", "RESOURCE_NOT_FOUND"), method


async def test_acts_need_a_connected_session_of_ones_own(stage: Stage, node: NodeProcess) -> None:
    account, foreign = await stage.paired(node), await stage.of_another_tenant()
    message = await sent(stage, node, account)
    about = {"message": ref(message), "starred": True}
    unpaired = await stage.create_account()

    assert (await refusal(stage, node, foreign, "SetMessageStarred", **about))[:2] == (
        "NOT_FOUND",
        "RESOURCE_NOT_FOUND",
    )
    named = {"message": {"network_message_id": "X", "chat": STRANGER}, "starred": True}
    assert (await refusal(stage, node, unpaired, "SetMessageStarred", **named))[:2] == (
        "FAILED_PRECONDITION",
        "NOT_PAIRED",
    )
    stage.network.logins.log_out(stage.on_network(account))
    stage.network.flush()

    async def ended() -> bool:
        refused = await refusal(stage, node, account, "SetMessageStarred", **about)
        return refused[:2] == ("FAILED_PRECONDITION", "NOT_PAIRED")

    await eventually(ended)
