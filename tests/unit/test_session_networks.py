"""While the network fails for most, a few accounts try it for all; when it works again all come back."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import new_uuid
from mesh_session_node.account.reconnect import FIRST, LONGEST_HELD
from mesh_session_node.account.session import Session
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End
from mesh_session_node.journal import Event
from mesh_session_node.node.network_health import SETTLED
from mesh_session_node.node.networks import PROBES, Networks
from sessionmesh.v1 import event_pb2
from sessionmesh.v1 import session_pb2 as pb
from tests.support.memory_host import OneAccount, account_row
from tests.support.memory_journal import Clock

AWAY = ConnectionEnded(End.LOST, "connection refused")


class Node:
    """Accounts of one node, on one network."""

    def __init__(self, clock: Clock) -> None:
        self.accounts: list[OneAccount] = []
        self._sessions: dict[str, Session] = {}
        self.networks = Networks(self._sessions)
        self._clock = clock

    async def add(self, accounts: int, tenant: UUID | None = None) -> list[OneAccount]:
        """So many more accounts, which are connected."""
        made = []
        for _ in range(accounts):
            row = account_row(new_uuid())
            account = OneAccount(replace(row, tenant=tenant or row.tenant))
            account.host.network = self.networks.of("memory")
            account.load(pb.SESSION_STATE_CONNECTED)
            self._sessions[account.session.id] = account.session
            await account.dial()
            made.append(account)
        self.accounts += made
        return made

    def go_away(self, error: ConnectionEnded = AWAY) -> None:
        """The network closes all connections and takes none."""
        self.refuse(error)
        for account in self.accounts:
            if account.session.context.link is not None:
                account.driver.link.end(End.LOST, "reset by peer")

    def refuse(self, error: ConnectionEnded | None) -> None:
        for account in self.accounts:
            account.driver.refusal = error

    async def pass_time(self, seconds: float) -> None:
        """Everybody whose turn comes dials."""
        for _ in range(round(seconds)):
            await self._clock.skip(1)
            self.networks.move_on()
            self.networks.judge()
            for account in self.accounts:
                await account.dial()

    def states(self) -> set[tuple[int, int]]:
        return {(account.shown.state, account.shown.cause) for account in self.accounts}

    @property
    def connected(self) -> int:
        return sum(account.shown.state == pb.SESSION_STATE_CONNECTED for account in self.accounts)

    async def close(self) -> None:
        for account in self.accounts:
            await account.host.close()


@pytest.fixture
async def node(clock: Clock) -> AsyncIterator[Node]:
    made = Node(clock)
    yield made
    await made.close()


HELD = (pb.SESSION_STATE_BACKOFF, pb.SESSION_CAUSE_NETWORK_FAILING)
CONNECTED = (pb.SESSION_STATE_CONNECTED, pb.SESSION_CAUSE_LOGGED_IN)


@pytest.mark.parametrize("accounts", [1, 3, 20])
@pytest.mark.parametrize(
    "error",
    [AWAY, ConnectionEnded(End.REFUSED, "not now"), ConnectionEnded(End.LOST, "name not known")],
    ids=["away", "refusing", "unknown"],
)
async def test_a_network_that_is_away_for_long_is_nobodys_fault(
    node: Node, accounts: int, error: ConnectionEnded
) -> None:
    await node.add(accounts)
    node.go_away(error)
    await node.pass_time(900)
    assert node.states() == {HELD}
    node.refuse(None)
    await node.pass_time(60)
    assert node.states() == {CONNECTED}
    assert [account.shown.recent_failures for account in node.accounts] == [0] * accounts


async def test_a_network_that_closes_after_each_login_is_nobodys_fault(node: Node) -> None:
    await node.add(20)
    for _ in range(1200):
        for account in node.accounts:
            account.driver.link.end(End.LOST, "reset by peer")
        await node.pass_time(1)
    causes = {account.shown.cause for account in node.accounts}
    assert pb.SESSION_CAUSE_QUARANTINED not in causes
    await node.pass_time(60)
    assert node.states() == {CONNECTED}


async def test_a_network_that_falls_silent_is_nobodys_fault(node: Node, clock: Clock) -> None:
    await node.add(20)
    for _ in range(10):
        await clock.skip(26)
        for account in node.accounts:
            account.tick()
        await node.pass_time(30)
    assert pb.SESSION_CAUSE_QUARANTINED not in {account.shown.cause for account in node.accounts}
    assert {account.session.connector.failures.quarantined(1e9) for account in node.accounts} == {False}
    await node.pass_time(60)
    assert node.states() == {CONNECTED}


async def test_an_account_that_fails_alone_is_quarantined(node: Node) -> None:
    [bad] = await node.add(1)
    await node.add(5)
    bad.driver.refusal = ConnectionEnded(End.REFUSED)
    bad.driver.link.end()
    await node.pass_time(3500)
    assert (bad.shown.state, bad.shown.cause) == (pb.SESSION_STATE_BACKOFF, pb.SESSION_CAUSE_QUARANTINED)
    assert node.connected == 5


async def test_an_account_in_quarantine_stays_there_when_the_network_comes_back(node: Node) -> None:
    [bad] = await node.add(1)
    await node.add(5)
    bad.driver.refusal = ConnectionEnded(End.REFUSED)
    bad.driver.link.end()
    await node.pass_time(3000)
    assert bad.shown.cause == pb.SESSION_CAUSE_QUARANTINED
    node.go_away()
    await node.pass_time(30)
    node.refuse(None)
    await node.pass_time(60)
    assert node.connected == 5
    assert bad.shown.cause == pb.SESSION_CAUSE_QUARANTINED


async def test_what_an_outage_added_to_the_delays_is_forgotten_with_it(node: Node) -> None:
    await node.add(3)
    node.go_away()
    await node.pass_time(300)
    node.refuse(None)
    await node.pass_time(60)
    assert node.states() == {CONNECTED}
    now = time.monotonic()
    delays = [node.accounts[0].session.connector.failures.delay(now) for _ in range(100)]
    assert max(delays) <= FIRST


async def test_only_a_few_try_while_it_fails(node: Node) -> None:
    await node.add(50)
    node.go_away()
    await node.pass_time(10)
    tried: list[OneAccount] = []
    for account in node.accounts:
        account.driver.refusal = None
        account.driver.hold_logins = True
        account.driver.on_login = lambda account=account: tried.append(account)  # type: ignore[misc]  # bound now
    await node.pass_time(20)
    assert len(tried) == PROBES


async def test_an_account_that_is_alone_tries_twice_a_minute(node: Node) -> None:
    [account] = await node.add(1)
    node.go_away()
    await node.pass_time(60)
    before = len(account.stored(Event))
    await node.pass_time(600)
    attempts = (len(account.stored(Event)) - before) / 2  # CONNECTING, and BACKOFF again
    assert 600 / (LONGEST_HELD + 5) <= attempts <= 600 / 15


async def test_who_is_to_try_comes_from_each_tenant_in_turn(node: Node) -> None:
    await node.add(20, new_uuid())
    [other] = await node.add(1, new_uuid())
    node.go_away()
    await node.pass_time(8)
    other.driver.refusal = None  # for the others something else is wrong, too
    await node.pass_time(2 * LONGEST_HELD)
    assert other.shown.state == pb.SESSION_STATE_CONNECTED


async def test_a_tenant_whose_accounts_are_dead_holds_no_other_up(node: Node) -> None:
    dead = await node.add(14, new_uuid())
    others = await node.add(11, new_uuid())
    for account in dead:
        account.driver.refusal = ConnectionEnded(End.REFUSED, "not any more")
        account.driver.link.end()
    await node.pass_time(20)
    others[0].driver.link.end(End.LOST, "reset by peer")
    await node.pass_time(20)
    assert others[0].shown.state == pb.SESSION_STATE_CONNECTED
    assert HELD not in node.states()


async def test_an_account_that_the_network_told_to_wait_does_not_try(node: Node) -> None:
    [account] = await node.add(1)
    node.go_away(ConnectionEnded(End.REFUSED, "not now", retry_after=300.0))
    await node.pass_time(20)
    node.refuse(None)
    await node.pass_time(200)
    assert account.shown.state == pb.SESSION_STATE_BACKOFF
    await node.pass_time(120)
    assert account.shown.state == pb.SESSION_STATE_CONNECTED


async def test_an_account_that_comes_here_meanwhile_waits_with_the_others(node: Node) -> None:
    await node.add(10)
    node.go_away()
    await node.pass_time(10)
    [late] = await node.add(1)
    assert (late.shown.state, late.shown.cause) == HELD
    assert late.driver.links == []
    node.refuse(None)
    await node.pass_time(60)
    assert late.shown.state == pb.SESSION_STATE_CONNECTED


async def test_who_asks_for_an_account_need_not_wait(node: Node) -> None:
    await node.add(10)
    node.go_away()
    await node.pass_time(10)
    account = node.accounts[3]
    account.driver.refusal = None
    account.session.connect()
    await account.dial()
    assert account.shown.state == pb.SESSION_STATE_CONNECTED
    await node.pass_time(SETTLED)
    assert not node.networks.of("memory").failing


async def test_an_account_that_is_disconnected_meanwhile_stays_so(node: Node) -> None:
    await node.add(10)
    node.go_away()
    await node.pass_time(10)
    account = node.accounts[3]
    held = node.networks.of("memory").held
    account.session.disconnect()
    assert node.networks.of("memory").held == held - 1
    node.refuse(None)
    await node.pass_time(60)
    assert node.connected == 9
    assert account.shown.state == pb.SESSION_STATE_PAUSED


async def test_each_account_says_why_it_waits(node: Node) -> None:
    await node.add(5)
    node.go_away()
    await node.pass_time(10)
    for account in node.accounts:
        assert account.shown.detail
        assert not account.shown.HasField("next_connect_time")
        events = [event_pb2.Event.FromString(row.body) for row in account.stored(Event)]
        assert pb.SESSION_CAUSE_NETWORK_FAILING in {event.session.session.cause for event in events}
