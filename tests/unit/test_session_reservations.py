"""The driver's state is stored ahead of what it allows: with the message that needs it, or by itself."""

from __future__ import annotations

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import Unavailable
from mesh_session_node.drivers.interface.ratchet import BLOCK
from mesh_session_node.journal import (
    REFUSED,
    Credential,
    Duplicate,
    Mismatch,
    OutboundMessage,
    Outcome,
    Poison,
)
from sessionmesh.v1 import session_pb2
from tests.support.memory_host import SEALED, OneAccount

FIRST = UUID("018f0000-0000-7000-8000-00000000000f")


def states(account: OneAccount) -> list[bool]:
    """Whether the driver's state was stored with each message."""
    return [row.state is not None for row in account.stored(OutboundMessage)]


async def test_the_first_message_brings_the_state_that_it_and_the_next_ones_need(account: OneAccount) -> None:
    await account.connected(positions=0)
    for number in range(BLOCK + 1):
        await account.send(str(number))
    assert states(account) == [True] + [False] * (BLOCK - 1) + [True]
    assert len(account.on_the_network) == BLOCK + 1


async def test_what_is_stored_is_sealed_and_lies_behind_every_position_that_was_used(
    account: OneAccount,
) -> None:
    await account.connected(positions=0)
    await account.send()
    assert account.journal.state.startswith(SEALED)
    assert account.driver.load(account.journal.state.removeprefix(SEALED)).next > max(
        account.driver.link.positions
    )


@pytest.mark.parametrize(
    "outcome", [REFUSED, Poison(ValueError("no"))], ids=lambda outcome: type(outcome).__name__
)
async def test_a_state_that_was_not_stored_is_asked_for_again(account: OneAccount, outcome: Outcome) -> None:
    state = await account.connected(positions=0)
    account.accept("one")
    await account.journal.commit(outcome)
    assert state.left == 0
    await account.send("two")
    assert states(account) == [True]
    assert account.on_the_network == ["two"]


async def test_a_state_whose_outcome_is_unknown_is_asked_for_again(account: OneAccount) -> None:
    state = await account.connected(positions=0)
    account.accept("one")
    await account.journal.lose()
    assert state.left == 0
    await account.send("two")
    assert states(account) == [True]


async def test_a_state_that_no_journal_took_is_asked_for_again(account: OneAccount) -> None:
    await account.connected(positions=0)
    account.journal.full = True
    with pytest.raises(Unavailable):
        account.accept("one")
    account.journal.full = False
    await account.send("two")
    assert states(account) == [True]


@pytest.mark.parametrize("outcome", [Duplicate(FIRST), Mismatch(FIRST)], ids=["repeat", "other payload"])
async def test_a_repeated_request_stores_the_state_that_came_with_it(
    account: OneAccount, outcome: Outcome
) -> None:
    state = await account.connected(positions=0)
    account.accept("one")
    await account.journal.commit(outcome)
    assert state.left == BLOCK
    assert account.on_the_network == []


async def test_messages_that_another_node_accepted_wait_for_a_state_of_their_own(account: OneAccount) -> None:
    account.load(session_pb2.SESSION_STATE_CONNECTED, positions=0)
    left = [await account.send(text) for text in ("one", "two")]
    account.take_over(*left)
    await account.dial()
    assert account.on_the_network == []
    [row] = account.journal.waiting
    assert isinstance(row, Credential)
    await account.journal.commit()
    assert account.on_the_network == ["one", "two"]


async def test_no_position_is_used_by_two_nodes(account: OneAccount) -> None:
    await account.connected(positions=0)
    left = [await account.send(text) for text in ("one", "two")]
    used = account.driver.link.positions
    account.take_over(*left)
    await account.dial()
    await account.journal.commit()
    assert account.on_the_network == ["one", "two", "one", "two"]
    assert min(account.driver.link.positions) > max(used)


async def test_one_reservation_is_asked_for_at_a_time(account: OneAccount) -> None:
    account.load(session_pb2.SESSION_STATE_CONNECTED, positions=0)
    account.take_over(await account.send("one"))
    await account.dial()
    account.session.sender.pump()
    assert len(account.journal.waiting) == 1


@pytest.mark.parametrize("refused", ["full", "fenced"])
async def test_a_reservation_that_was_not_stored_is_tried_again_when_the_outbox_is_looked_at(
    account: OneAccount, refused: str
) -> None:
    account.load(session_pb2.SESSION_STATE_CONNECTED, positions=0)
    account.take_over(await account.send("one"))
    account.journal.full = refused == "full"
    await account.dial()
    await account.journal.commit(REFUSED)
    assert account.on_the_network == []
    account.journal.full = False
    account.tick()
    await account.journal.commit()
    assert account.on_the_network == ["one"]


async def test_nothing_is_reserved_for_an_account_with_nothing_to_send(account: OneAccount) -> None:
    await account.connected(positions=0)
    account.session.sender.pump()
    assert account.journal.waiting == []


async def test_after_a_reservation_that_no_journal_took_the_next_message_brings_its_own(
    account: OneAccount,
) -> None:
    await account.connected(positions=0)
    account.take_over(await account.send("one"))
    account.journal.full = True
    await account.dial()
    account.journal.full = False
    await account.send("two")
    assert states(account) == [True, True]
    assert account.on_the_network[-2:] == ["one", "two"]
