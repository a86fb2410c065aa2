"""What may still leave of a connection that was closed: nothing else begins before it has."""

from __future__ import annotations

import asyncio
from unittest.mock import AsyncMock, MagicMock

import pytest

from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End
from mesh_session_node.node.registry import Registry
from mesh_session_node.node.shard_handler import NodeShardHandler
from sessionmesh.v1 import session_pb2 as pb
from tests.support.memory_host import OneAccount
from tests.support.memory_journal import Clock, turn


class Shards:
    """A node's shards, of which one has the account's session."""

    def __init__(self, account: OneAccount) -> None:
        self.registry = Registry(lambda _session: None)
        self.registry.add(account.session)
        self.shard = account.session.context.ref.shard
        self.registry.epochs[self.shard] = 3
        self.journal = MagicMock(flush=AsyncMock())
        self.loader = MagicMock(load_shards=AsyncMock())
        self.handler = NodeShardHandler(self.registry, self.loader, self.journal, lambda: 0.0)


@pytest.fixture
async def closing(account: OneAccount) -> OneAccount:
    """Connected; its connection closes only once the network lets it."""
    account.driver.hold_closes = True
    await account.connected()
    return account


async def test_a_shard_is_given_back_once_nothing_of_it_can_leave(closing: OneAccount) -> None:
    shards = Shards(closing)
    releasing = asyncio.create_task(shards.handler.release([shards.shard]))
    await turn()
    assert closing.driver.link.aborted
    assert not shards.journal.flush.called
    closing.driver.link.let_close()
    await releasing
    shards.journal.flush.assert_called_once_with(give_back={shards.shard: 3})


async def test_a_shard_that_was_lost_and_comes_back_is_loaded_once_nothing_of_it_can_leave(
    closing: OneAccount,
) -> None:
    shards = Shards(closing)
    shards.handler.lost([shards.shard])
    acquiring = asyncio.create_task(shards.handler.acquired({shards.shard: 4}, {}))
    await turn()
    assert not shards.loader.load_shards.called
    closing.driver.link.let_close()
    await acquiring
    assert shards.loader.load_shards.called


async def test_a_shard_is_given_back_once_a_login_under_way_has_ended(account: OneAccount) -> None:
    account.driver.hold_logins = True
    account.load(pb.SESSION_STATE_CONNECTED)
    await account.dial()
    shards = Shards(account)
    await shards.handler.release([shards.shard])
    assert account.driver.link.aborted
    assert shards.journal.flush.called


async def test_the_next_connection_waits_until_nothing_of_the_one_before_can_leave(
    closing: OneAccount,
) -> None:
    first = closing.driver.link
    closing.session.connector.connect_anew("test")
    await closing.dial()
    assert closing.driver.links == [first]
    first.let_close()
    await turn()
    assert len(closing.driver.links) == 2
    assert closing.shown.state == pb.SESSION_STATE_CONNECTED


async def test_a_connection_whose_carrier_is_gone_is_made_anew_at_once(account: OneAccount) -> None:
    await account.connected()
    account.driver.link.end(End.CARRIER_GONE, "the program has ended")
    assert account.shown.state == pb.SESSION_STATE_CONNECTING
    assert account.shown.recent_failures == 0


@pytest.mark.parametrize("end", [End.CLIENT_EXPIRED, End.STATE_UNUSABLE])
async def test_a_login_that_cannot_succeed_for_now_is_tried_again_later(
    account: OneAccount, clock: Clock, end: End
) -> None:
    await clock.skip(0)
    account.driver.refusal = ConnectionEnded(end, "too old")
    account.load(pb.SESSION_STATE_CONNECTED)
    await account.dial()
    assert (account.shown.state, account.shown.cause) == (
        pb.SESSION_STATE_BACKOFF,
        pb.SESSION_CAUSE_LOGIN_REFUSED,
    )
    assert account.shown.detail == "too old"
    assert account.shown.paired
