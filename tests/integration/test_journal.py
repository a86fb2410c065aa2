"""The journal against a real Postgres: what is accepted, and what cannot be stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from mesh_core.errors import InvalidArgument
from mesh_core.ids import Prefix, encode, new_uuid
from mesh_session_node.journal import (
    COMMITTED,
    Credential,
    Poison,
    ReceiptPart,
    Row,
    StatusChange,
    batch_sender,
    unwrap,
)
from mesh_session_node.journal.telemetry import RESENT
from tests.support.eventually import eventually
from tests.support.journal_world import (
    DELIVERED,
    QUEUED,
    SENT,
    World,
    accept_all,
    event,
    inbound,
    open_world,
    outbound,
)

LARGE: dict[str, Callable[[int, bytes], Row]] = {
    "media": lambda n, large: inbound(f"N{n}", media=large),
    "event of a status": lambda _, large: StatusChange(new_uuid(), SENT, 1, event(body=large)),
    "receipts": lambda _, large: ReceiptPart(new_uuid(), new_uuid(), large),
    "state": lambda _, large: Credential(large),
}


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    async with open_world(postgres_url) as opened:
        yield opened


class TestAccepting:
    async def test_an_accepted_message_has_its_row_outbox_request_and_event(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        fields = {"external_id": "order 7", "labels": '{"campaign": "tea"}', "traceparent": "00-1"}
        message = outbound("r1", chat="somebody", priority=2, network_id="net", **fields)

        assert await journal.accept(account, message) == COMMITTED

        [row] = await world.database.pool.fetch("SELECT * FROM message")
        assert (row["id"], row["account"], row["epoch"]) == (message.id, account.uuid, account.epoch)
        assert (row["external_id"], row["labels"]) == ("order 7", '{"campaign": "tea"}')
        assert (row["direction"], row["status"], row["chat"], row["content"]) == (
            1,
            QUEUED,
            "somebody",
            b"content",
        )
        assert (row["network_id"], row["traceparent"], row["priority"]) == ("net", "00-1", 2)
        [queued] = await world.database.pool.fetch("SELECT * FROM outbox")
        assert (queued["message"], queued["shard"], queued["priority"]) == (message.id, 5, 2)
        [stored] = await world.database.pool.fetch("SELECT * FROM event")
        assert (stored["id"], stored["tenant"], stored["type"]) == (
            message.event.id,
            account.tenant,
            "message.queued",
        )
        assert await world.value("SELECT result FROM request WHERE request_id = 'r1'") == message.id

    async def test_committed_messages_are_handed_over_in_order_before_any_caller_goes_on(
        self, world: World
    ) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        messages = [outbound() for _ in range(20)]
        handed_over = []

        async def call(message_at: int) -> None:
            await journal.accept(account, messages[message_at])
            handed_over.append(len(world.sent))

        await asyncio.gather(*[call(at) for at in range(20)])
        assert [m.id for m in world.sent] == [m.id for m in messages]
        assert min(handed_over) >= 1

    async def test_a_scheduled_message_is_due_when_asked(self, world: World) -> None:
        journal = await world.journal("a")
        await journal.accept(await world.account("a"), outbound(due_at=4_000_000_000_000_001))
        due = await world.value("SELECT due_at FROM outbox")
        assert due.timestamp() == 4_000_000_000.000001

    async def test_the_driver_state_is_saved_with_the_last_message_of_a_batch(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        await accept_all(journal, [(account, outbound(state=bytes([n]))) for n in range(5)])
        assert await world.value("SELECT blob FROM credential WHERE account = $1", account.uuid) == b"\x04"

    async def test_content_with_nul_characters_is_stored(self, world: World) -> None:
        journal = await world.journal("a")
        assert await journal.accept(await world.account("a"), outbound(content=b"a\0b")) == COMMITTED
        assert await world.value("SELECT content FROM message") == b"a\0b"

    async def test_a_caller_that_gives_up_takes_nobody_with_it(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        kept, dropped = journal.accept(account, outbound()), journal.accept(account, outbound())
        dropped.cancel()
        assert await kept == COMMITTED
        assert await world.count("message") == 2


class TestPoison:
    async def test_only_the_guilty_callers_of_a_batch_are_told(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        messages = [outbound(f"r{n}") for n in range(200)]
        messages[5] = outbound("r5", chat="nul\0chat")  # refused by Postgres, SQLSTATE class 22
        messages[77] = outbound("r77", content=b"x" * 2_000_000)  # refused by a CHECK, class 23
        messages[121] = outbound("r121", content="not bytes")  # refused by asyncpg's encoder

        outcomes = await accept_all(journal, [(account, message) for message in messages])

        assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Poison)] == [5, 77, 121]
        assert (
            await world.count("message") == await world.count("event") == await world.count("request") == 197
        )

    async def test_one_poisoned_caller_of_many(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        calls = [journal.accept(account, outbound(chat="\0" if n == 9 else "ok")) for n in range(20)]
        outcomes = await asyncio.gather(*calls)
        assert [n for n, outcome in enumerate(outcomes) if outcome != COMMITTED] == [9]

    async def test_its_caller_is_not_told_what_the_database_says_of_it(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        outcome = await journal.accept(account, outbound("r", content=b"secret" * 400_000))
        assert isinstance(outcome, Poison)
        assert "Failing row" in str(outcome.error)
        with pytest.raises(InvalidArgument) as refused:
            unwrap(outcome, new_uuid())
        assert refused.value.message == "the database cannot store what the request says"

    async def test_shards_are_given_back_even_when_the_last_row_is_poison(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        call = journal.accept(account, outbound(chat="\0"))
        await journal.flush({account.shard: account.epoch})
        assert isinstance(await call, Poison)
        assert await world.value("SELECT released FROM shard_fence WHERE shard = $1", account.shard)

    async def test_rows_that_make_no_columns_take_nobody_with_them(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        strange = journal.write(account, cast("Any", "no row"))
        kept = journal.accept(account, outbound())
        assert isinstance(await strange, Poison)
        assert await kept == COMMITTED

    async def test_what_is_refused_is_logged_with_its_account(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        with capture_logs() as logs:
            journal.post(account, StatusChange(new_uuid(), DELIVERED, 1, network_id="nul\0"))
            await journal.flush()
            await journal.write(account, inbound("nul\0"))
        told = [(log["account_id"], log["rows"], log["told"]) for log in logs if log["log_level"] == "error"]
        account_id = encode(Prefix.ACCOUNT, account.uuid)
        assert told == [(account_id, ["StatusChange"], False), (account_id, ["InboundMessage"], True)]

    async def test_a_failure_behind_a_commit_stops_nobody(self, world: World) -> None:
        def fail() -> None:
            raise RuntimeError("a listener is broken")

        journal = await world.journal("a", after_commit=fail)
        account = await world.account("a")
        outcomes = [await journal.accept(account, outbound()) for _ in range(2)]
        assert outcomes == [COMMITTED, COMMITTED]


async def test_large_rows_are_spread_over_several_batches(world: World) -> None:
    journal = await world.journal("a")
    account = await world.account("a")
    before, large = journal.batches, b"x" * 1_000_000
    outcomes = await accept_all(journal, [(account, outbound(content=large)) for _ in range(10)])
    assert outcomes == [COMMITTED] * 10
    assert journal.batches - before == 3


@pytest.mark.parametrize("kind", [*LARGE])
async def test_whatever_makes_rows_large_spreads_them_over_several_batches(world: World, kind: str) -> None:
    journal = await world.journal("a")
    account = await world.account("a")
    before, large = journal.batches, b"x" * 900_000
    done = [journal.write(account, LARGE[kind](number, large)) for number in range(10)]
    assert await asyncio.gather(*done) == [COMMITTED] * 10
    assert journal.batches - before == 3


class TestTime:
    async def test_a_batch_that_takes_too_long_is_stored_in_halves(self, world: World) -> None:
        journal = await world.journal("a", timeout="300ms")
        account = await world.account("a")
        await world.slow_down("slow", 0.05)
        messages = [outbound(f"r{n}", chat="slow") for n in range(8)]
        outcomes = await accept_all(journal, [(account, message) for message in messages])
        assert outcomes == [COMMITTED] * 8
        assert [m.id for m in world.sent] == [m.id for m in messages]
        assert await world.count("message") == await world.count("event") == 8

    async def test_a_message_that_always_takes_too_long_is_refused_alone(self, world: World) -> None:
        journal = await world.journal("a", timeout="100ms")
        account = await world.account("a")
        await world.slow_down("slow", 1.0)
        calls = [(account, outbound(f"r{n}", chat="slow" if n == 1 else "quick")) for n in range(4)]
        outcomes = await accept_all(journal, calls)
        assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Poison)] == [1]
        assert await world.count("message") == await world.count("event") == 3

    async def test_a_message_is_not_refused_while_the_database_is_slow_with_everything(
        self, world: World
    ) -> None:
        journal = await world.journal("a", timeout="300ms")
        account = await world.account("a")
        await world.slow_all_down(1.0)
        call, before = journal.accept(account, outbound()), RESENT.value
        await eventually(partial(_resent, before + 12))
        await world.end_slowness()
        assert await call == COMMITTED
        assert await world.count("message") == 1

    async def test_shards_are_given_back_even_when_the_last_row_always_takes_too_long(
        self, world: World
    ) -> None:
        journal = await world.journal("a", timeout="100ms")
        account = await world.account("a")
        await world.slow_down("slow", 1.0)
        call = journal.accept(account, outbound(chat="slow"))
        await journal.flush({account.shard: account.epoch})
        assert isinstance(await call, Poison)
        assert await world.value("SELECT released FROM shard_fence WHERE shard = $1", account.shard)

    async def test_a_batch_that_lands_after_its_sender_gave_up_is_not_stored_again(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        await journal.write(account, event())  # connected
        monkeypatch.setattr(batch_sender, "_TIMEOUT", 0.2)
        await world.slow_down("slow", 0.5)
        message, before = outbound(chat="slow"), journal.batches
        assert await journal.accept(account, message) == COMMITTED
        assert [m.id for m in world.sent] == [message.id]
        assert await world.count("message") == 1
        assert journal.batches - before == 1

    async def test_who_waits_for_a_lock_is_not_guilty(self, world: World) -> None:
        journal = await world.journal("a", timeout="300ms", lock_timeout="50ms")
        account = await world.account("a")
        async with world.database.pool.acquire() as blocker:
            transaction = blocker.transaction()
            await transaction.start()
            await blocker.execute("SELECT FROM node_incarnation FOR UPDATE")
            call, before = journal.accept(account, outbound()), RESENT.value
            await eventually(partial(_resent, before + 3))
            assert journal.batches == 0
            await transaction.rollback()
        assert await call == COMMITTED


async def told(world: World) -> list[str | int]:
    """The events in their order, as the statuses that they are named for."""
    types: list[str] = await world.value("SELECT array_agg(type ORDER BY xid, seq) FROM event")
    return [int(type_) if type_.isdigit() else type_ for type_ in types]


async def _resent(times: float) -> bool:
    return bool(RESENT.value >= times)
