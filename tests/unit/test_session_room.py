"""How much memory messages on their way out may take, and that each gives back what it took."""

from __future__ import annotations

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import ResourceExhausted
from mesh_core.ids import new_uuid
from mesh_session_node.context.context import SessionSettings
from mesh_session_node.drivers.interface.outcomes import End, Failure
from mesh_session_node.journal import REFUSED
from mesh_session_node.outbound.outgoing import Outgoing
from mesh_session_node.outbound.preparation import CannotPrepare
from mesh_session_node.outbound.room import OVERHEAD, AccountRoom, NodeRoom
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1 import session_pb2
from tests.support.memory_host import OneAccount

ONE, TWO = UUID(bytes(16)), UUID(bytes([1] * 16))
MESSAGE = OVERHEAD + 1024


def message() -> Outgoing:
    out = Outgoing(new_uuid(), "ID", "phone:+4915112345678", pb.SendMessageRequest(), "")
    out.size = 1024
    return out


def fill(room: AccountRoom) -> int:
    """So many messages find room."""
    count = 0
    while room.lacks(1024) is None:
        room.take(message())
        count += 1
    return count


def test_an_account_has_so_many_bytes() -> None:
    room = AccountRoom(NodeRoom(100 * MESSAGE), ONE, 10 * MESSAGE)
    assert fill(room) == 10
    assert room.lacks(1024) == ("the account's outbox has 20,480 bytes at most", "outbox_bytes")


def test_one_tenant_alone_fills_half_of_a_node_and_another_one_finds_room() -> None:
    node = NodeRoom(90 * MESSAGE)
    rooms = [AccountRoom(node, ONE, 30 * MESSAGE) for _ in range(3)]
    assert sum(map(fill, rooms)) == 45
    lacking = rooms[-1].lacks(1024)
    assert lacking is not None
    assert lacking[1] == "node_outbox_bytes"
    assert fill(AccountRoom(node, TWO, 30 * MESSAGE)) == 23


def test_a_message_that_has_left_makes_room() -> None:
    room = AccountRoom(NodeRoom(100 * MESSAGE), ONE, MESSAGE)
    out = message()
    room.take(out)
    assert room.lacks(1024) is not None
    out.leave_room()
    out.leave_room()
    assert fill(room) == 1


def test_what_another_node_accepted_is_taken_over_though_there_is_no_room() -> None:
    room = AccountRoom(NodeRoom(MESSAGE), ONE, MESSAGE)
    for _ in range(3):
        room.take(message())
    assert room.lacks(1024) is not None


# The messages of an account


@pytest.fixture
async def account(account: OneAccount) -> OneAccount:
    """An account with room for one message."""
    account.host.settings = SessionSettings(outbox_bytes=OVERHEAD + 200)
    return account


def has_room(account: OneAccount) -> bool:
    try:
        account.session.sender.acceptance.check_room(100)
    except ResourceExhausted:
        return False
    return True


async def test_who_finds_no_room_is_told_which_limit_it_is_and_when_to_come_again(
    account: OneAccount,
) -> None:
    await account.connected()
    await account.send()
    with pytest.raises(ResourceExhausted) as refused:
        account.accept()
    assert (refused.value.reason, refused.value.quota) == ("OUTBOX_FULL", "outbox_bytes")
    assert refused.value.retry_after


@pytest.mark.parametrize("where", ["accepted", "waiting", "being prepared", "with the network"])
async def test_a_message_takes_room_wherever_it_is(account: OneAccount, where: str) -> None:
    if where in ("being prepared", "with the network"):
        await account.connected()
    else:
        account.load(session_pb2.SESSION_STATE_CONNECTED)
    assert has_room(account)
    account.accept("cat.png" if where == "being prepared" else "hello")
    if where != "accepted":
        await account.journal.commit()
    assert not has_room(account)


async def test_a_message_that_the_network_has_makes_room(account: OneAccount) -> None:
    await account.connected()
    await account.send()
    account.driver.link.answer()
    assert has_room(account)


async def test_a_message_that_failed_makes_room(account: OneAccount) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.reject(out.network_id, Failure.UNKNOWN_RECIPIENT)
    assert has_room(account)


async def test_a_message_that_cannot_be_prepared_makes_room(account: OneAccount) -> None:
    await account.connected()
    await account.prepared(await account.send("cat.png"), error=CannotPrepare("no such file"))
    assert has_room(account)


@pytest.mark.parametrize("text", ["hello", "cat.png"])
async def test_a_cancelled_message_makes_room(account: OneAccount, text: str) -> None:
    if text == "hello":
        account.load(session_pb2.SESSION_STATE_CONNECTED)
    else:
        await account.connected()
    out = await account.send(text)
    assert account.session.sender.cancel(out.uuid) is out
    assert has_room(account)


async def test_a_message_that_is_kept_after_all_takes_its_room_again(account: OneAccount) -> None:
    account.load(session_pb2.SESSION_STATE_CONNECTED)
    out = await account.send()
    assert account.session.sender.cancel(out.uuid) is out
    account.session.sender.keep(out)
    assert not has_room(account)


async def test_a_message_that_may_be_with_the_network_keeps_its_room(account: OneAccount) -> None:
    await account.connected()
    out = await account.send()
    account.driver.link.end(End.LOST)
    assert account.session.sender.cancel(out.uuid) is None
    assert not has_room(account)


async def test_a_message_that_was_not_stored_makes_room(account: OneAccount) -> None:
    await account.connected()
    account.accept()
    await account.journal.commit(REFUSED)
    assert has_room(account)


async def test_a_message_that_is_stored_after_its_caller_gave_up_takes_room_until_it_is_sent(
    account: OneAccount,
) -> None:
    account.load(session_pb2.SESSION_STATE_CONNECTED)
    account.accept()
    account.journal.give_up()
    await account.settle()
    await account.journal.commit()
    assert not has_room(account)


async def test_an_account_that_leaves_gives_the_room_of_the_node_back(account: OneAccount) -> None:
    account.load(session_pb2.SESSION_STATE_CONNECTED)
    out = await account.send()
    account.session.close()
    assert out.room is None


async def test_a_pairing_that_ends_makes_room(account: OneAccount) -> None:
    await account.connected()
    await account.send()
    account.driver.link.end(End.LOGGED_OUT)
    assert has_room(account)


async def test_what_was_taken_over_takes_room(account: OneAccount) -> None:
    await account.connected()
    account.take_over(await account.send())
    assert not has_room(account)
