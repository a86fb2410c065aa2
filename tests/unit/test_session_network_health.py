"""Whether a network fails for most accounts of a node, or some accounts fail alone."""

from __future__ import annotations

from collections import Counter

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import new_uuid
from mesh_session_node.node.network_health import (
    LONGEST_SETTLED,
    RELAPSE,
    SETTLED,
    WINDOW,
    NetworkHealth,
    Tally,
)
from sessionmesh.v1 import session_pb2 as pb

LOST, FAILED, REFUSED, SILENT = (
    pb.SESSION_CAUSE_CONNECTION_LOST,
    pb.SESSION_CAUSE_CONNECT_FAILED,
    pb.SESSION_CAUSE_LOGIN_REFUSED,
    pb.SESSION_CAUSE_KEEPALIVE_TIMED_OUT,
)


class Node:
    """So many accounts of each tenant, all connected for long, on a network that is judged once a second."""

    def __init__(self, *accounts: int) -> None:
        self.health = NetworkHealth()
        self.now = 1000.0
        self.tenants: dict[str, UUID] = {}
        for of_tenant in accounts:
            tenant = new_uuid()
            first = len(self.tenants)
            self.tenants.update((f"account-{first + number}", tenant) for number in range(of_tenant))
        self.names = [*self.tenants]
        self.waiting: set[str] = set()
        self.log_in(*self.names)
        self.pass_time(WINDOW + 1)

    def of(self, number: int) -> list[str]:
        """The accounts of one tenant."""
        tenant = [*dict.fromkeys(self.tenants.values())][number]
        return [name for name in self.names if self.tenants[name] == tenant]

    def fail(self, *names: str, cause: pb.SessionCause.ValueType = FAILED) -> list[bool]:
        """These fail, one after the other; whether each is to blame."""
        self.waiting |= {*names}
        return [self.health.failed(name, self.tenants[name], cause, self.now) for name in names]

    def log_in(self, *names: str) -> None:
        self.waiting -= {*names}
        for name in names:
            self.health.succeeded(name, self.tenants[name], self.now)

    def judge(self) -> bool:
        """Whether the judgement changes."""
        wanted = Counter(self.tenants[name] for name in self.names)
        waiting = Counter(self.tenants[name] for name in self.waiting)
        return self.health.judge(
            {tenant: Tally(wanted[tenant], waiting[tenant]) for tenant in wanted}, self.now
        )

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + 1.0)
            self.judge()

    @property
    def failing(self) -> bool:
        return self.health.failing


# It fails


@pytest.mark.parametrize("accounts", [1, 2, 3, 7, 50, 2000])
@pytest.mark.parametrize("cause", [LOST, FAILED, REFUSED, SILENT])
def test_a_network_that_loses_everybody_fails(accounts: int, cause: pb.SessionCause.ValueType) -> None:
    node = Node(accounts)
    node.fail(*node.names, cause=cause)
    assert node.judge()
    assert node.failing
    assert node.health.cause == cause


def test_a_network_that_goes_silent_fails_long_before_the_last_has_noticed() -> None:
    node = Node(2000)
    for second in range(10):
        node.fail(*node.names[second * 20 : second * 20 + 20], cause=SILENT)
        node.pass_time(1)
    assert node.failing


def test_a_network_that_takes_no_login_fails_though_older_connections_stand() -> None:
    node = Node(2000)
    node.fail(*node.names[:100], cause=REFUSED)
    node.pass_time(1)
    assert node.failing


@pytest.mark.parametrize("accounts", [2, 4, 10, 100, 2000])
def test_an_account_that_fails_alone_is_to_blame(accounts: int) -> None:
    node = Node(accounts)
    for _ in range(10):
        assert node.fail(node.names[0]) == [True]
        node.pass_time(30)
    assert not node.failing


@pytest.mark.parametrize(("accounts", "bad"), [(10, 2), (100, 4), (2000, 40)])
def test_a_few_that_fail_among_many_are_to_blame_each(accounts: int, bad: int) -> None:
    node = Node(accounts)
    for _ in range(10):
        assert all(node.fail(*node.names[:bad]))
        node.pass_time(30)
    assert not node.failing


def test_an_account_that_nobody_can_be_compared_with_is_not_to_blame() -> None:
    assert Node(1).fail("account-0") == [False]


def test_nobody_is_to_blame_while_the_network_fails() -> None:
    node = Node(50)
    node.fail(*node.names)
    node.judge()
    assert node.fail(*node.names) == [False] * 50


def test_nobody_is_to_blame_for_a_network_that_fails_for_half_of_those_that_try() -> None:
    node = Node(2000)
    node.log_in(*node.names[:200])
    node.fail(*node.names[200:400])
    node.judge()
    assert not node.failing
    assert node.fail("account-500") == [False]


def test_accounts_that_connect_again_outweigh_those_that_fail() -> None:
    node = Node(10)
    node.fail(*node.names, cause=LOST)
    node.log_in(*node.names[:4])
    assert not node.judge()


def test_what_was_an_hour_ago_says_nothing_of_now() -> None:
    node = Node(10)
    for name in node.names[:8]:  # one after the other, each for a reason of its own
        node.fail(name)
        node.pass_time(WINDOW + 1)
    assert not node.failing


def test_accounts_that_are_not_to_be_online_any_more_are_no_failures() -> None:
    node = Node(10)
    node.fail(*node.names[1:])
    for name in node.names[1:]:
        node.health.forget(name)
    node.waiting.clear()
    del node.names[1:]
    assert not node.judge()


def test_accounts_that_are_not_to_be_online_any_more_are_no_witnesses() -> None:
    node = Node(2)
    assert node.fail("account-0") == [True]
    node.health.forget("account-1")
    assert node.fail("account-0") == [False]


# A tenant counts once


@pytest.mark.parametrize("dead", [[14, 11], [14] + [1] * 20, [2000, 3, 3, 3, 3, 3]], ids=str)
def test_accounts_of_one_tenant_that_all_are_dead_are_no_outage_for_the_others(dead: list[int]) -> None:
    node = Node(*dead)
    for _ in range(20):
        node.fail(*node.of(0))
        node.pass_time(30)
        assert not node.failing


def test_one_account_of_another_tenant_that_fails_too_is_no_outage() -> None:
    node = Node(14, 11)
    node.fail(*node.of(0), node.of(1)[0])
    assert not node.judge()


def test_a_network_that_loses_everybody_fails_however_the_tenants_are_sized() -> None:
    node = Node(2000, 1, 30)
    node.fail(*node.names)
    assert node.judge()


def test_a_network_that_takes_no_login_fails_for_few_tenants() -> None:
    node = Node(500, 300)
    node.fail(*node.of(0)[:25], *node.of(1)[:15], cause=REFUSED)
    assert node.judge()


def test_a_network_that_takes_no_login_fails_for_many_small_tenants() -> None:
    node = Node(*[10] * 200)
    node.fail(*[node.names[number * 10] for number in range(20)], cause=REFUSED)
    assert node.judge()


def test_dead_accounts_are_to_blame_when_it_works_for_the_other_tenants() -> None:
    node = Node(14, 2, 2, 2, 3)
    node.log_in(*[node.of(tenant)[0] for tenant in (1, 2, 3, 4)])
    assert all(node.fail(*node.of(0)))


# It works again


def failing(accounts: int) -> Node:
    node = Node(accounts)
    node.fail(*node.names)
    node.judge()
    assert node.failing
    return node


def test_it_works_again_when_one_account_keeps_its_connection() -> None:
    node = failing(50)
    node.pass_time(600)
    assert node.failing
    node.log_in("account-7")
    assert not node.judge()
    node.pass_time(SETTLED)
    assert not node.failing


def test_a_connection_from_before_does_not_prove_that_it_works() -> None:
    node = Node(2000)
    node.fail(*node.names[:100], cause=REFUSED)
    node.judge()
    node.pass_time(60)
    assert node.failing


def test_a_network_that_closes_after_login_does_not_work_again() -> None:
    node = failing(50)
    for _ in range(30):
        node.log_in("account-7")
        node.judge()
        node.fail("account-7", cause=LOST)
        node.pass_time(SETTLED)
    assert node.failing


def test_one_that_closes_a_little_later_must_work_longer_each_time() -> None:
    node = failing(50)
    works = []
    for _ in range(10):
        node.log_in(*node.names)
        node.pass_time(10)
        works.append(not node.failing)
        node.fail(*node.names, cause=LOST)
        node.pass_time(1)
    assert works[0]
    assert not any(works[-3:])


def test_it_never_must_work_for_long() -> None:
    node = failing(50)
    for _ in range(10):
        node.log_in(*node.names)
        node.pass_time(LONGEST_SETTLED)
        assert not node.failing
        node.fail(*node.names, cause=LOST)
        node.pass_time(1)


def test_after_a_good_while_it_is_trusted_as_at_first() -> None:
    node = failing(50)
    for _ in range(5):
        node.log_in(*node.names)
        node.pass_time(RELAPSE + 60)
        node.fail(*node.names, cause=LOST)
        node.pass_time(1)
        assert node.failing
    node.log_in("account-7")
    node.pass_time(SETTLED)
    assert not node.failing


def test_nothing_fails_where_nobody_is_left() -> None:
    node = failing(5)
    for name in node.names:
        node.health.forget(name)
    node.names.clear()
    assert node.judge()
    assert not node.failing
