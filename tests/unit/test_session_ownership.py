"""A session does nothing for an account that may not run here at that very moment."""

from __future__ import annotations

from sessionmesh.v1 import session_pb2 as pb
from tests.support.memory_host import OneAccount


async def test_what_is_stored_is_sent_while_the_account_may_run_here(account: OneAccount) -> None:
    await account.connected()
    await account.send("hello")
    assert account.on_the_network == ["hello"]


async def test_nothing_is_sent_once_the_account_may_not_run_here(account: OneAccount) -> None:
    await account.connected()
    account.host.permits = False
    await account.send("hello")
    account.session.sender.pump()
    assert account.on_the_network == []
    assert account.shown.counters.queued == 1


async def test_no_connection_is_begun_for_an_account_that_may_not_run_here(account: OneAccount) -> None:
    account.load(pb.SESSION_STATE_CONNECTED)
    account.host.permits = False
    await account.dial()
    assert account.driver.links == []
    assert account.shown.recent_failures == 0


async def test_a_connection_that_is_ready_too_late_is_closed(account: OneAccount) -> None:
    def lose() -> None:
        account.host.permits = False

    account.driver.on_login = lose
    account.load(pb.SESSION_STATE_CONNECTED)
    await account.dial()
    assert account.session.context.link is None
    assert account.driver.link.aborted
    assert account.shown.state != pb.SESSION_STATE_CONNECTED


async def test_a_closed_session_has_left_the_network_and_sends_nothing(account: OneAccount) -> None:
    await account.connected()
    account.accept("hello")
    account.session.close()
    await account.journal.commit()
    account.session.sender.pump()
    assert account.driver.link.aborted
    assert account.on_the_network == []
    assert account.shown.counters.queued == 0
