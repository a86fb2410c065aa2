"""Messages that need something before they can be sent: their chat waits for them, the others do not."""

from __future__ import annotations

import pytest

from mesh_session_node.drivers.interface.outcomes import End
from mesh_session_node.session.sender import CannotPrepare
from sessionmesh.v1 import message_pb2 as pb
from tests.support.memory_host import Clock, OneAccount, Prepared

OTHER = "+4915100000009"


def ready(account: OneAccount) -> Prepared:
    """What the first message that waits needs."""
    return Prepared(account.host.preparing[0].request.SerializeToString(), ("ref",))


async def test_a_picture_is_sent_when_the_network_has_its_file(account: OneAccount) -> None:
    await account.connected()
    out = await account.send("cat.png")
    assert account.on_the_network == []
    assert account.host.preparing == [out]
    account.host.prepared(out, ready(account))
    await account.settle()
    [message] = account.driver.link.sent
    assert (message.network_id, list(message.blobs)) == (out.network_id, ["ref"])


async def test_an_answer_waits_for_the_message_that_it_refers_to(account: OneAccount) -> None:
    await account.connected()
    out = await account.send("yes", options=pb.MessageOptions(reply_to_message_id="msg_1"))
    assert account.host.preparing == [out]
    assert account.on_the_network == []


async def test_a_chat_keeps_its_order_behind_a_picture(account: OneAccount) -> None:
    await account.connected()
    out = await account.send("cat.png")
    await account.send("this is my cat")
    assert account.on_the_network == []
    account.host.prepared(out, ready(account))
    await account.settle()
    assert account.on_the_network == ["cat.png", "this is my cat"]


async def test_other_chats_do_not_wait_for_a_picture(account: OneAccount) -> None:
    await account.connected()
    await account.send("cat.png")
    await account.send("hello", OTHER)
    assert account.on_the_network == ["hello"]


async def test_a_picture_that_is_being_prepared_counts_as_waiting(account: OneAccount) -> None:
    account.limit(outbox=1)
    await account.connected()
    await account.send("cat.png")
    with pytest.raises(Exception, match="outbox is full"):
        account.accept("hello")


async def test_a_file_that_cannot_be_had_now_is_tried_again_and_its_chat_waits(
    account: OneAccount, clock: Clock
) -> None:
    await account.connected()
    out = await account.send("cat.png")
    await account.send("this is my cat")
    account.host.prepared(out, CannotPrepare("the store is away", final=False))
    await account.settle()
    assert account.host.preparing == []
    await clock.skip(1.1)
    assert account.host.preparing == [out]
    account.host.prepared(out, ready(account))
    await account.settle()
    assert account.on_the_network == ["cat.png", "this is my cat"]
    assert account.statuses(out) == []


@pytest.mark.parametrize("reason", [pb.FAILURE_REASON_MEDIA_UNAVAILABLE, pb.FAILURE_REASON_CONTENT_REFUSED])
async def test_a_file_that_can_never_be_had_fails_its_message_and_lets_the_chat_go_on(
    account: OneAccount, reason: pb.FailureReason.ValueType
) -> None:
    await account.connected()
    out = await account.send("cat.png")
    await account.send("this is my cat")
    account.host.prepared(out, CannotPrepare("no such file", reason))
    await account.settle()
    [change] = account.changes(out)
    assert (change.status, change.failure, change.failure_detail) == (
        pb.MESSAGE_STATUS_FAILED,
        reason,
        "no such file",
    )
    assert account.on_the_network == ["this is my cat"]


async def test_a_picture_that_becomes_ready_offline_is_sent_after_the_next_login(account: OneAccount) -> None:
    await account.connected()
    out = await account.send("cat.png")
    account.driver.link.end(End.LOST)
    account.host.prepared(out, ready(account))
    await account.settle()
    account.session.connect()
    await account.dial()
    assert account.on_the_network == ["cat.png"]


async def test_a_picture_that_becomes_ready_after_the_account_has_left_goes_nowhere(
    account: OneAccount,
) -> None:
    await account.connected()
    out = await account.send("cat.png")
    done = ready(account)
    account.session.close()
    account.host.prepared(out, done)
    await account.settle()
    assert account.on_the_network == []
    assert account.statuses(out) == []


async def test_preparing_does_not_use_the_limits_up(account: OneAccount) -> None:
    account.limit(per_minute=1)
    await account.connected()
    out = await account.send("cat.png")
    await account.send("hello", OTHER)
    assert account.on_the_network == ["hello"]
    account.host.prepared(out, ready(account))
    await account.settle()
    assert account.on_the_network == ["hello"]
