"""What operators have people do: towards an account, on its phone and in its groups."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.simulator.v1 import simulator_pb2 as api
from tests.support.simulated_client import SimulatedClient
from tests.support.simulated_network import ALICE, BOB, SOMEBODY
from tests.support.simulator_operator import Operator

NOBODY = "+15550009999"


async def answer(client: SimulatedClient, **query: Any) -> wire.Answer:
    """What the network answers the account."""
    client.write(wire.Frame(query=wire.Query(id=1, **query)))
    return (await client.expect("answer")).answer


async def told(client: SimulatedClient, kind: str) -> Any:
    """The account's next notice of that kind."""
    frame = await client.expect_where(lambda one: one.notice.WhichOneof("kind") == kind)
    return getattr(frame.notice, kind)


@pytest.mark.read_back("ShowTyping")
async def test_an_account_sees_somebody_type(operator: Operator) -> None:
    client = await operator.client(ALICE)
    await operator.ask("ShowTyping", phone=ALICE, sender=SOMEBODY, state=wire.TYPING_STATE_RECORDING)
    typing = (await client.expect("typing")).typing
    assert (typing.sender, typing.chat, typing.state) == (SOMEBODY, SOMEBODY, wire.TYPING_STATE_RECORDING)
    client.abort()


@pytest.mark.read_back("ShowPresence")
async def test_whoever_watches_a_person_sees_them_come_and_go(operator: Operator) -> None:
    client = await operator.client(ALICE)
    assert (await answer(client, show_online=wire.ShowOnline(online=True))).HasField("done")
    assert (await answer(client, watch_presence=wire.WatchPresence(address=SOMEBODY))).HasField("done")
    await operator.ask("ShowPresence", person=SOMEBODY, online=True)
    await client.expect_where(lambda one: one.presence.available and one.presence.sender == SOMEBODY)
    await operator.ask("ShowPresence", person=SOMEBODY, last_seen_time=Timestamp(seconds=1_700_000_000))
    gone = await client.expect_where(lambda one: one.presence.last_seen_us > 0)
    assert (gone.presence.available, gone.presence.last_seen_us) == (False, 1_700_000_000_000_000)
    client.abort()


@pytest.mark.read_back("PlaceCall", "EndCall")
async def test_a_call_rings_until_its_caller_gives_up(operator: Operator) -> None:
    client = await operator.client(ALICE)
    call_id = (await operator.ask("PlaceCall", phone=ALICE, caller=SOMEBODY, video=True)).call_id
    offered = await told(client, "call_offered")
    assert (offered.call_id, offered.caller, offered.video) == (call_id, SOMEBODY, True)
    await operator.ask("EndCall", phone=ALICE, call_id=call_id, end=wire.CALL_END_MISSED)
    ended = await told(client, "call_ended")
    assert (ended.call_id, ended.end) == (call_id, wire.CALL_END_MISSED)
    client.abort()


@pytest.mark.read_back("ActOnPhone")
async def test_what_is_done_on_the_phone_is_told_and_read(operator: Operator) -> None:
    client = await operator.client(ALICE)
    await operator.ask("ActOnPhone", phone=ALICE, chat=SOMEBODY, archive=True)
    assert (await told(client, "app_state")).name == f"archive/{SOMEBODY}"
    changed = (await answer(client, fetch_app_state=wire.FetchAppState())).app_state
    assert [one.name for one in changed.entries] == [f"archive/{SOMEBODY}"]
    await operator.ask("ActOnPhone", phone=ALICE, chat=SOMEBODY, read="M1")
    read = await told(client, "chat_read")
    assert (read.chat, read.message_id) == (SOMEBODY, "M1")
    client.abort()


@pytest.mark.read_back("GivePhoneHistory")
async def test_a_phone_has_as_much_of_the_past_as_it_was_given(operator: Operator) -> None:
    client = await operator.client(ALICE)
    for given in (3, 0):
        await operator.ask("GivePhoneHistory", phone=ALICE, chat=SOMEBODY, messages=given)
        asked = wire.FetchHistory(chat=SOMEBODY, most=50)
        history = (await answer(client, fetch_history=asked)).history
        assert (len(history.messages), history.exhausted) == (given, True)
    client.abort()


@pytest.mark.read_back("ActInGroup")
async def test_people_act_in_groups_as_members_may(operator: Operator) -> None:
    client = await operator.client(ALICE)
    made = (await operator.ask("CreateNetworkGroup", subject="Us", members=[BOB, ALICE])).group
    group_id = made.address.removeprefix("group:")
    named = wire.Query(change_group=wire.ChangeGroup(group_id=group_id, subject="All of us"))
    done = await operator.ask("ActInGroup", phone=BOB, query=named)
    assert not done.answer.HasField("error")
    assert (await told(client, "group_changed")).subject == "All of us"
    refused = await operator.ask("ActInGroup", phone=NOBODY, query=named)
    assert refused.answer.error.reason == wire.QUERY_ERROR_REASON_NOT_A_MEMBER
    client.abort()


@pytest.mark.read_back("ChangeNetworkPerson")
async def test_a_person_shows_what_they_changed(operator: Operator) -> None:
    client = await operator.client(ALICE)
    await operator.ask(
        "ChangeNetworkPerson", phone=BOB, push_name="Bob", about="At sea", picture=b"face", business=True
    )
    look = wire.LookUpPerson(address=f"phone:{BOB}")
    shown = (await answer(client, look_up_person=look)).person_shown
    assert (shown.push_name, shown.about, shown.business) == ("Bob", "At sea", True)
    assert shown.picture_id
    await operator.ask("ChangeNetworkPerson", phone=BOB, picture=b"", business=False)
    shown = (await answer(client, look_up_person=look)).person_shown
    assert (shown.about, shown.business, shown.picture_id) == ("At sea", False, "")
    client.abort()


@pytest.mark.read_back("ChangeNetworkContact")
async def test_an_account_is_told_whom_its_phone_saves(operator: Operator) -> None:
    client = await operator.client(ALICE)
    await operator.ask(
        "ChangeNetworkContact", phone=ALICE, contact=BOB, full_name="Bob Builder", first_name="Bob"
    )
    saved = await told(client, "person_changed")
    assert (saved.saved, saved.full_name, saved.first_name) == (True, "Bob Builder", "Bob")
    await operator.ask("ChangeNetworkContact", phone=ALICE, contact=BOB)
    assert not (await told(client, "person_changed")).saved
    client.abort()


@pytest.mark.parametrize(
    ("field", "method", "fields"),
    [
        ("state", "ShowTyping", {"phone": ALICE, "sender": SOMEBODY, "state": 99}),
        ("group", "ShowTyping", {"phone": ALICE, "sender": SOMEBODY, "group": SOMEBODY, "state": 1}),
        ("person", "ShowPresence", {"person": f"phone:{ALICE}", "online": True}),
        (
            "last_seen_time",
            "ShowPresence",
            {"person": SOMEBODY, "online": True, "last_seen_time": Timestamp(seconds=1)},
        ),
        ("caller", "PlaceCall", {"phone": ALICE, "caller": "hidden:1"}),
        ("end", "EndCall", {"phone": ALICE, "call_id": "C1", "end": 99}),
        ("act", "ActOnPhone", {"phone": ALICE, "chat": SOMEBODY}),
        ("label.id", "ActOnPhone", {"phone": ALICE, "label": api.PhoneLabel(name="New")}),
        ("messages", "GivePhoneHistory", {"phone": ALICE, "chat": SOMEBODY, "messages": -1}),
        ("phone", "ActInGroup", {"phone": "bob", "query": wire.Query()}),
        ("picture", "ChangeNetworkPerson", {"phone": BOB, "picture": b"x" * (2 * 1024 * 1024 + 1)}),
        ("contact", "ChangeNetworkContact", {"phone": ALICE, "contact": "bob"}),
    ],
)
async def test_what_nobody_can_do_is_refused(
    operator: Operator, field: str, method: str, fields: dict[str, Any]
) -> None:
    await operator.paired(ALICE)
    with pytest.raises(grpc.aio.AioRpcError, match=f"{field}: ") as refused:
        await operator.ask(method, **fields)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_call_that_has_ended_cannot_be_ended(operator: Operator) -> None:
    await operator.paired(ALICE)
    call_id = (await operator.ask("PlaceCall", phone=ALICE, caller=SOMEBODY)).call_id
    ended = {"phone": ALICE, "call_id": call_id, "end": wire.CALL_END_TIMED_OUT}
    await operator.ask("EndCall", **ended)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await operator.ask("EndCall", **ended)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
