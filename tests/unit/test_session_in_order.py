"""Work for one chat is done in its order, and no chat waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from mesh_session_node.inbound import in_order
from mesh_session_node.inbound.in_order import MAX_WAITING, InOrder
from tests.support.memory_host import OneAccount, of_another_tenant


def doing(done: list[str], name: str, *, after: asyncio.Event | None = None) -> Callable[[], Awaitable[None]]:
    async def work() -> None:
        if after is not None:
            await after.wait()
        if name == "fails":
            raise ValueError("no good")
        done.append(name)

    return work


async def test_each_chat_goes_on_by_itself(account: OneAccount) -> None:
    order, session, done, first = InOrder(), account.session.context, list[str](), asyncio.Event()
    order.add(session, "a", doing(done, "a1", after=first))
    order.add(session, "a", doing(done, "a2"))
    order.add(session, "b", doing(done, "b1"))
    await account.settle()
    assert done == ["b1"]
    assert [order.busy(session, chat) for chat in "ab"] == [True, False]
    first.set()
    await account.settle()
    assert done == ["b1", "a1", "a2"]
    assert not order.busy(session, "a")


async def test_work_that_fails_does_not_take_what_came_after_it_along(account: OneAccount) -> None:
    order, session, done = InOrder(), account.session.context, list[str]()
    for name in ("fails", "next"):
        order.add(session, "a", doing(done, name))
    await account.settle()
    assert done == ["next"]


async def test_one_account_that_has_too_much_waiting_takes_no_room_of_others(account: OneAccount) -> None:
    order, session, done, never = InOrder(), account.session.context, list[str](), asyncio.Event()
    other = OneAccount()
    for _ in range(MAX_WAITING):
        assert order.add(session, "a", doing(done, "waits", after=never))
    assert not order.add(session, "b", doing(done, "too much"))
    assert order.add(other.session.context, "a", doing(done, "other"))
    await account.settle()
    assert done == ["other"]
    await account.host.close()
    assert order.add(session, "b", doing(done, "room again"))
    await other.host.close()


async def test_the_accounts_of_a_tenant_have_so_much_waiting_and_room_again_once_most_is_done(
    account: OneAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_order, "MAX_WAITING_OF_ALL", 8)
    order, session, done = InOrder(), account.session.context, list[str]()
    other = OneAccount()
    first, second = asyncio.Event(), asyncio.Event()
    for gate in (first, second, second):
        assert order.add(session, "a", doing(done, "a", after=gate))
    assert order.add(other.session.context, "a", doing(done, "b", after=second))
    assert not order.add(other.session.context, "c", doing(done, "too much"))
    first.set()
    await account.settle()
    assert not order.has_room(other.session.context)
    second.set()
    await account.settle()
    await other.settle()
    assert order.has_room(other.session.context)
    assert order.add(other.session.context, "c", doing(done, "room again"))
    await other.settle()
    assert done == ["a", "a", "a", "b", "room again"]
    await other.host.close()


async def test_a_tenant_that_has_much_waiting_leaves_room_for_others(
    account: OneAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_order, "MAX_WAITING_OF_ALL", 8)
    order, session, done, never = InOrder(), account.session.context, list[str](), asyncio.Event()
    other = of_another_tenant()
    while order.add(session, "a", doing(done, "waits", after=never)):
        pass
    assert order.has_room(other.session.context)
    assert order.add(other.session.context, "a", doing(done, "theirs"))
    await other.settle()
    assert done == ["theirs"]
    assert not order.add(session, "b", doing(done, "too much"))
    await other.host.close()
