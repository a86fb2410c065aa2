"""What the account itself wrote, on whatever device, is synced and never received."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from mesh_session_node.context.message_rows import message_of_row
from mesh_session_node.drivers.interface.content import Identity, Reference
from mesh_session_node.journal import (
    ContentUpdate,
    InboundMessage,
)
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import Person
from tests.support.incoming import (
    ADA,
    CHANGES,
    EARLIER,
    HEART,
    incoming,
    stored_messages,
    with_earlier_message,
    with_own_message,
)
from tests.support.memory_host import PHONE, OneAccount


async def test_what_another_device_of_the_account_sent_is_synced(account: OneAccount) -> None:
    await account.connected()
    own = f"phone:{PHONE}"
    account.driver.link.receive(
        incoming(sender=own, from_account=True, identity=Identity(user_id="7"), push_name="")
    )
    await account.journal.commit()
    [row] = account.stored(InboundMessage)
    assert row.event is not None
    assert (row.direction, row.status, row.event.type) == (
        pb.DIRECTION_OUTBOUND,
        pb.MESSAGE_STATUS_SENT,
        "message.synced",
    )
    [message] = stored_messages(account)
    assert message.origin == pb.MESSAGE_ORIGIN_OTHER_DEVICE
    assert (message.sender.address, message.sender.phone) == (own, PHONE)
    assert message.recipient == Person(address=ADA, phone="+4915100000009", user_id="7")
    assert account.driver.link.acknowledged == ["IN1"]
    assert account.shown.counters.received == 0


async def test_a_reaction_from_another_device_of_the_account_is_synced_too(account: OneAccount) -> None:
    await account.connected()
    with_earlier_message(account)
    account.driver.link.receive(
        incoming(sender=f"phone:{PHONE}", from_account=True, content=HEART, target=EARLIER)
    )
    await account.settle()
    await account.journal.commit()
    [row] = account.stored(InboundMessage)
    assert row.event is not None
    assert row.event.type == "message.synced"


def shown(account: OneAccount) -> pb.Message:
    """The message that was stored last, as the API shows it."""
    session = account.session.context
    return message_of_row(session.id, session.people, cast("Any", account.messages.rows[-1]))


async def test_what_the_accounts_phone_writes_in_a_group_says_nothing_of_the_group(
    account: OneAccount,
) -> None:
    await account.connected()
    own = Identity(phone=PHONE, user_id="7")
    account.driver.link.receive(
        incoming(chat="group:1", sender=f"phone:{PHONE}", from_account=True, identity=own, push_name="")
    )
    account.driver.link.receive(incoming(network_id="IN2", chat="group:1"))
    await account.journal.commit()
    synced, received = stored_messages(account)
    assert not synced.HasField("recipient")
    assert synced.sender.phone == PHONE
    assert received.sender.user_id == ""
    shown = pb.Message()
    account.session.context.people.show(shown, "group:1")
    assert not shown.HasField("recipient")


@pytest.mark.parametrize(
    ("chat", "sender", "identity"),
    [
        (f"phone:{PHONE}", f"phone:{PHONE}", Identity(phone=PHONE)),
        ("group:1", f"phone:{PHONE}", None),
        ("group:1", "hidden:9", Identity(phone=PHONE, hidden_id="9")),
    ],
    ids=["to itself", "in a group", "in a group by another address"],
)
async def test_what_the_account_wrote_is_never_received(
    account: OneAccount, chat: str, sender: str, identity: Identity | None
) -> None:
    await account.connected()
    account.driver.link.receive(incoming(chat=chat, sender=sender, identity=identity))
    await account.journal.commit()
    [row] = account.stored(InboundMessage)
    assert row.event is not None
    assert (row.direction, row.event.type) == (pb.DIRECTION_OUTBOUND, "message.synced")
    assert account.shown.counters.received == 0


@pytest.mark.parametrize("marked", [True, False], ids=["of its own device", "as if somebody wrote"])
async def test_the_echo_of_what_this_api_sent_is_acknowledged_and_not_stored_again(
    account: OneAccount, marked: bool
) -> None:
    await account.connected()
    own = f"phone:{PHONE}"
    out = await account.send(to=PHONE)
    with_own_message(account, out, own)
    account.driver.link.receive(
        incoming(network_id=out.network_id, chat=own, sender=own, from_account=marked)
    )
    await account.settle()
    assert account.journal.waiting == []
    assert account.driver.link.acknowledged == [out.network_id]


async def test_an_echo_of_a_message_that_is_not_stored_is_synced(account: OneAccount) -> None:
    await account.connected()
    out = await account.send(to=PHONE)
    account.driver.link.receive(
        incoming(network_id=out.network_id, chat=f"phone:{PHONE}", sender=f"phone:{PHONE}")
    )
    await account.settle()
    [row] = account.journal.waiting
    assert isinstance(row, InboundMessage)
    assert row.event is not None
    assert row.event.type == "message.synced"


async def test_the_account_that_takes_back_its_message_is_shown_with_all_its_names(
    account: OneAccount,
) -> None:
    await account.connected()
    out = await account.send()
    with_own_message(account, out)
    target = Reference(out.network_id, ADA, f"phone:{PHONE}")
    revocation = replace(CHANGES["revocation"], sender=f"phone:{PHONE}", from_account=True, target=target)
    account.driver.link.receive(revocation)
    await account.settle()
    await account.journal.commit()
    [row] = account.stored(ContentUpdate)
    actor = pb.SendMessageRequest.FromString(row.content).content.revoked.actor
    state = account.session.context.driver_state
    assert state is not None
    assert state.user_id
    assert (actor.phone, actor.user_id) == (PHONE, state.user_id)
