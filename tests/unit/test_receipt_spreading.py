"""Receipts of groups' members: spread over time, in turns over the accounts, each account's in its order."""

from __future__ import annotations

from collections.abc import Callable

from mesh_core.ids import new_uuid
from mesh_session_node.drivers.interface.content import Identity
from mesh_session_node.outbound.member_receipts import AT_ONCE, Spread, Told
from tests.support.eventually import eventually


def noting(done: list[str], what: str) -> Callable[[], None]:
    return lambda: done.append(what)


async def test_what_a_small_group_confirms_is_handled_at_once() -> None:
    spread, done = Spread(), list[str]()
    for at in range(AT_ONCE):
        spread.handle("one", noting(done, str(at)))
    assert len(done) == AT_ONCE
    assert not spread.holds("one")


async def test_what_a_large_group_confirms_is_handled_in_its_order() -> None:
    spread, done = Spread(), list[str]()
    for at in range(1_023):
        spread.handle("one", noting(done, str(at)))
    assert len(done) == AT_ONCE
    assert spread.holds("one")
    await eventually(lambda: len(done) == 1_023)
    assert done == [str(at) for at in range(1_023)]
    assert not spread.holds("one")


async def test_another_account_need_not_wait_until_a_large_group_is_through() -> None:
    spread, done = Spread(), list[str]()
    for _ in range(1_023):
        spread.handle("one", noting(done, "one"))
    spread.handle("other", noting(done, "other"))
    await eventually(lambda: len(done) == 1_024)
    assert done.index("other") <= AT_ONCE + 2 * AT_ONCE


async def test_a_receipt_that_fails_costs_itself_alone() -> None:
    spread, done = Spread(), list[str]()

    def fails() -> None:
        raise RuntimeError("boom")

    for _ in range(AT_ONCE):
        spread.handle("one", noting(done, "first"))
    spread.handle("one", fails)
    spread.handle("one", noting(done, "last"))
    await eventually(lambda: done[-1] == "last")


async def test_there_is_room_again_after_a_while() -> None:
    spread, done = Spread(), list[str]()
    for at in range(2 * AT_ONCE):
        spread.handle("one", noting(done, str(at)))
    await eventually(lambda: len(done) == 2 * AT_ONCE)

    def handled_at_once() -> bool:
        before = len(done)
        spread.handle("other", noting(done, "more"))
        return len(done) == before + 1

    await eventually(handled_at_once)


def test_what_was_told_of_somebody_is_new_once_for_each_account() -> None:
    told, one, other = Told(2), new_uuid(), new_uuid()
    ann = Identity(phone="+4915112345678", hidden_id="1")
    assert told.is_new(one, "phone:+4915112345678", ann)
    assert not told.is_new(one, "phone:+4915112345678", ann)
    assert told.is_new(one, "phone:+4915112345678", Identity(phone="+4915112345678", hidden_id="2"))
    assert told.is_new(other, "phone:+4915112345678", ann)
    assert told.is_new(one, "phone:+4915112345678", ann)  # of more than two the oldest are forgotten
