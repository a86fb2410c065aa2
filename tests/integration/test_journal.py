"""The journal against a real Postgres: what is stored, what is refused, and who is told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import product
from typing import Any, cast

import asyncpg
import pytest
from structlog.testing import capture_logs

from mesh_core.errors import InvalidArgument, Unavailable
from mesh_core.ids import Prefix, encode, new_uuid
from mesh_core.message_status import may_become
from mesh_session_node.journal import (
    COMMITTED,
    REFUSED,
    AccountRef,
    Action,
    ContentUpdate,
    Credential,
    Disconnect,
    Duplicate,
    FetchBegin,
    FetchDone,
    FetchRetry,
    IncarnationExpired,
    MemberReceipt,
    Mismatch,
    OutboundMessage,
    Outcome,
    PersonIdentity,
    Poison,
    Row,
    SessionSnapshot,
    StatusChange,
    batch_sender,
    unwrap,
)
from mesh_session_node.journal.batch import COLUMNS, Columns
from mesh_session_node.journal.telemetry import RESENT
from mesh_session_node.store.messages import MessageStore
from sessionmesh.v1.message_pb2 import MessageStatus
from tests.support.eventually import eventually
from tests.support.journal_world import (
    CANCELLED,
    DELIVERED,
    FAILED,
    IN_DOUBT,
    QUEUED,
    READ,
    SENDING,
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
    "event of a receipt": lambda n, large: MemberReceipt(
        new_uuid(), f"user:{n}", DELIVERED, 1, event(body=large)
    ),
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
            journal.post(account, MemberReceipt(new_uuid(), "nul\0", DELIVERED, 1))
            await journal.flush()
            await journal.write(account, inbound("nul\0"))
        told = [(log["account_id"], log["rows"], log["told"]) for log in logs if log["log_level"] == "error"]
        account_id = encode(Prefix.ACCOUNT, account.uuid)
        assert told == [(account_id, ["MemberReceipt"], False), (account_id, ["InboundMessage"], True)]

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
            call, before = journal.accept(account, outbound()), RESENT._value.get()
            await eventually(partial(_resent, before + 3))
            assert journal.batches == 0
            await transaction.rollback()
        assert await call == COMMITTED


class TestRequestIds:
    async def test_the_same_request_gets_the_first_result_and_writes_nothing(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        first = outbound("same")
        assert await journal.accept(account, first) == COMMITTED
        assert await journal.accept(account, outbound("same")) == Duplicate(first.id)
        assert await world.count("message") == await world.count("outbox") == await world.count("event") == 1
        assert [m.id for m in world.sent] == [first.id]

    async def test_another_payload_under_the_same_id_is_a_mismatch(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        first = outbound("same")
        await journal.accept(account, first)
        assert await journal.accept(account, outbound("same", digest=b"another payload!")) == Mismatch(
            first.id
        )

    async def test_repeats_within_one_batch(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        first, last = outbound("same"), outbound("other")
        outcomes = await accept_all(
            journal,
            [(account, first), (account, outbound("same")), (account, outbound("same")), (account, last)],
        )
        assert outcomes == [COMMITTED, Duplicate(first.id), Duplicate(first.id), COMMITTED]
        assert [m.id for m in world.sent] == [first.id, last.id]

    async def test_an_id_counts_for_one_account_and_one_method(self, world: World) -> None:
        journal = await world.journal("a")
        one, other = await world.account("a", 1), await world.account("a", 2)
        outcomes = await accept_all(
            journal, [(one, outbound("same")), (other, outbound("same")), (one, outbound("same", method=4))]
        )
        assert outcomes == [COMMITTED] * 3

    async def test_a_repeat_after_a_takeover_gets_the_old_owners_result(self, world: World) -> None:
        old, new = await world.journal("old"), await world.journal("new")
        account = await world.account("old")
        first = outbound("same")
        await old.accept(account, first)
        moved = AccountRef(
            account.uuid, account.tenant, account.shard, await world.give(account.shard, "new")
        )
        assert await new.accept(moved, outbound("same")) == Duplicate(first.id)

    async def test_a_repeat_waits_for_its_uncommitted_rival(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        first = new_uuid()
        async with world.database.pool.acquire() as rival:
            transaction = rival.transaction()
            await transaction.start()
            await rival.execute(
                "INSERT INTO request (scope, method, request_id, digest, result)"
                " VALUES ($1, 1, 'same', $2, $3)",
                account.uuid,
                outbound().digest,
                first,
            )
            call = journal.accept(account, outbound("same"))
            await world.batch_is_blocked()
            await transaction.commit()
        assert await call == Duplicate(first)
        assert await world.count("message") == 0

    async def test_an_action_is_guarded_like_a_message(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        first = Action(6, "same", b"x", new_uuid(), event())
        assert await journal.write(account, first) == COMMITTED
        assert await journal.write(account, Action(6, "same", b"x", new_uuid(), event())) == Duplicate(
            first.result
        )
        assert await journal.write(account, Action(6, "same", b"y", new_uuid())) == Mismatch(first.result)
        assert await world.count("event") == 1

    async def test_messages_without_a_request_id_are_never_duplicates(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        assert await accept_all(journal, [(account, outbound()), (account, outbound())]) == [COMMITTED] * 2


class TestFence:
    async def test_a_stale_epoch_is_refused_and_its_neighbours_are_not(self, world: World) -> None:
        journal = await world.journal("a")
        stale, current = await world.account("a", 1), await world.account("a", 2)
        await world.give(1, "a")
        outcomes = await accept_all(
            journal, [(stale, outbound()), (current, outbound()), (stale, outbound())]
        )
        assert outcomes == [REFUSED, COMMITTED, REFUSED]
        assert await world.value("SELECT account FROM message") == current.uuid
        assert await world.count("event") == await world.count("outbox") == 1

    async def test_a_node_that_is_not_the_holder_is_refused_at_the_right_epoch_too(
        self, world: World
    ) -> None:
        account = await world.account("b")
        journal = await world.journal("a")
        assert await journal.accept(account, outbound()) == REFUSED
        assert await world.count("message") == 0

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "row", ["status", "inbound", "credential", "session", "event", "action", "person", "fetch"]
    )
    async def test_no_kind_of_row_passes_a_lost_shard(self, world: World, row: str) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        message = outbound()
        await journal.accept(account, message)
        await world.give(account.shard, "b")
        rows: dict[str, Row] = {
            "status": StatusChange(message.id, SENT, 1, event()),
            "inbound": inbound("n1", media=b"m"),
            "credential": Credential(b"blob"),
            "session": SessionSnapshot(node="a", state=4, update_time=1),
            "event": event(),
            "action": Action(6, "r", b"x", new_uuid(), event()),
            "person": PersonIdentity("user:7", "+491", "7", "", "", "", 1),
            "fetch": FetchBegin(message.id, b"m"),
        }
        assert await journal.write(account, rows[row]) == REFUSED
        assert await world.value("SELECT status FROM message") == QUEUED
        assert await world.count("event") == await world.count("message") == await world.count("outbox") == 1
        for table in (
            "credential",
            "session",
            "media_fetch",
            "network_message",
            "request",
            "person_identity",
        ):
            assert await world.count(table) == 0

    async def test_an_expired_incarnation_can_write_nothing_and_stops(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        await world.database.pool.execute("UPDATE node_incarnation SET expired = true")
        with pytest.raises(Unavailable):
            await journal.accept(account, outbound())
        with pytest.raises(IncarnationExpired):
            await world.tasks.pop("a")
        with pytest.raises(Unavailable):
            journal.accept(account, outbound())
        assert await world.count("message") == 0

    async def test_a_takeover_waits_for_a_batch_under_way_and_a_beat_does_not(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        async with world.database.pool.acquire() as rival, rival.transaction():
            await rival.execute(
                "INSERT INTO request (scope, method, request_id, digest, result)"
                " VALUES ($1, 1, 'same', 'd', $1)",
                account.uuid,
            )
            call = journal.accept(account, outbound("same"))
            await world.batch_is_blocked()
            await world.database.pool.execute("SELECT FROM beat('a')")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await world.database.pool.execute("SELECT FROM node_incarnation FOR UPDATE NOWAIT")
        assert isinstance(await call, Mismatch)

    async def test_a_shard_is_not_taken_from_the_dead_before_its_last_batch_has_ended(
        self, world: World
    ) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        await world.journal("b")
        pool = world.database.pool
        async with pool.acquire() as rival, rival.transaction():
            await rival.execute(
                "INSERT INTO request (scope, method, request_id, digest, result)"
                " VALUES ($1, 1, 'same', 'd', $1)",
                account.uuid,
            )
            call = journal.accept(account, outbound("same"))
            await world.batch_is_blocked()
            take = asyncio.create_task(
                pool.fetchval(
                    "SELECT outcome FROM take_shards($1, '{1}', 'b', '{a}', '7 s', '1 s')", [account.shard]
                )
            )
            await world.takeover_is_blocked()
        assert isinstance(await call, Mismatch)
        assert await take == "taken"

    async def test_given_back_shards_are_released_with_their_last_rows(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        message = outbound()
        await journal.accept(account, message)
        journal.post(account, StatusChange(message.id, SENT, 1))
        last = journal.accept(account, outbound())

        await journal.flush({account.shard: account.epoch})

        assert await last == COMMITTED
        assert await world.value("SELECT status FROM message WHERE id = $1", message.id) == SENT
        assert await world.value("SELECT released FROM shard_fence WHERE shard = $1", account.shard)
        assert await journal.accept(account, outbound()) == REFUSED

    async def test_a_shard_of_a_later_tenure_is_not_given_back(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        await world.give(account.shard, "a")
        await journal.flush({account.shard: account.epoch})
        assert not await world.value("SELECT released FROM shard_fence WHERE shard = $1", account.shard)


class TestStatuses:
    @pytest.mark.parametrize(
        ("steps", "final"),
        [
            ([SENT, DELIVERED, READ], READ),
            ([DELIVERED, SENT], DELIVERED),
            ([SENT, SENDING], SENT),
            ([SENDING, IN_DOUBT, SENT], SENT),
            ([SENT, CANCELLED], SENT),
            ([CANCELLED, SENT], CANCELLED),
            ([SENT, FAILED], FAILED),
            ([DELIVERED, FAILED], DELIVERED),
            ([IN_DOUBT, FAILED], FAILED),
            ([SENDING, CANCELLED, SENT], SENT),
            ([FAILED, DELIVERED], FAILED),
        ],
    )
    @pytest.mark.parametrize("together", [True, False])
    async def test_a_status_only_rises(
        self, world: World, steps: list[int], final: int, together: bool
    ) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        message = outbound()
        await journal.accept(account, message)
        changes = [StatusChange(message.id, status, at) for at, status in enumerate(steps)]
        for rows in [changes] if together else [[change] for change in changes]:
            assert await journal.write(account, *rows) == COMMITTED
        assert await world.value("SELECT status FROM message") == final
        assert await world.count("outbox") == 0

    async def test_the_database_has_the_table_of_statuses(self, world: World) -> None:
        statuses = MessageStatus.values()
        rows = await world.database.pool.fetch(
            "SELECT old, new, message_may_become(old, new) AS legal"
            " FROM unnest($1::smallint[]) AS old, unnest($1::smallint[]) AS new",
            statuses,
        )
        assert len(rows) == len(statuses) ** 2
        for old, new, legal in rows:
            assert legal == may_become(old, new), (old, new)

    async def test_changes_of_one_batch_end_where_one_after_the_other_would(self, world: World) -> None:
        """Every status before, and every two changes of one batch, with the events of what is legal."""
        journal = await world.journal("a")
        account = await world.account("a")
        changes = [status for status in MessageStatus.values() if status != QUEUED and status]
        cases = [(old, *pair) for old in [QUEUED, *changes] for pair in product(changes, changes)]
        messages = [outbound() for _ in cases]
        await accept_all(journal, [(account, message) for message in messages])
        ids = [message.id for message in messages]
        await world.database.pool.execute(
            "UPDATE message SET status = c.status FROM unnest($1::uuid[], $2::smallint[]) AS c(id, status)"
            " WHERE message.id = c.id",
            ids,
            [old for old, *_ in cases],
        )
        for message, (_, first, second) in zip(messages, cases, strict=True):
            journal.post(
                account,
                StatusChange(message.id, first, 1),
                StatusChange(message.id, second, 2, event("second")),
            )
        await journal.flush()
        rows = await world.database.pool.fetch("SELECT id, status FROM message")
        stored = {row["id"]: row["status"] for row in rows}
        told = 0
        for message, (old, *steps) in zip(messages, cases, strict=True):
            for step in steps:
                legal = may_become(old, step)
                old = step if legal else old  # noqa: PLW2901 - what comes of it
            told += legal
            assert stored[message.id] == old, steps
        assert await world.value("SELECT count(*) FROM event WHERE type = 'second'") == told

    async def test_sent_and_delivered_that_are_held_become_one_update_with_both_events(
        self, world: World
    ) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        message = outbound()
        await journal.accept(account, message)
        batches = journal.batches
        journal.post(account, StatusChange(message.id, SENT, 7_000_000, event("message.sent")))
        journal.post(account, StatusChange(message.id, DELIVERED, 8_000_000, event("message.delivered")))
        await journal.flush()
        assert journal.batches == batches + 1
        [row] = await world.database.pool.fetch("SELECT status, network_time, update_time FROM message")
        assert (row["status"], row["network_time"].timestamp(), row["update_time"].timestamp()) == (
            DELIVERED,
            7,
            8,
        )
        assert await world.count("event") == 3

    async def test_held_statuses_are_stored_without_anybody_asking(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        message = outbound()
        await journal.accept(account, message)
        journal.post(account, StatusChange(message.id, SENT, 1))
        await eventually(lambda: world.value("SELECT status = 30 FROM message"))

    async def test_a_status_that_did_not_rise_has_no_event(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        one, other = outbound(), outbound()
        await accept_all(journal, [(account, one), (account, other)])
        await journal.write(account, StatusChange(one.id, DELIVERED, 1, event("first")))
        await journal.write(
            account,
            StatusChange(one.id, DELIVERED, 2, event("repeat")),
            StatusChange(other.id, DELIVERED, 2, event("other")),
        )
        types = await world.value("SELECT array_agg(type ORDER BY xid, seq) FROM event")
        assert types == ["message.queued", "message.queued", "first", "other"]

    async def test_a_failure_tells_its_reason(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        message = outbound()
        await journal.accept(account, message)
        await journal.write(account, StatusChange(message.id, FAILED, 1, None, 8, 131, "no such user"))
        [row] = await world.database.pool.fetch("SELECT failure, failure_code, failure_detail FROM message")
        assert tuple(row) == (8, 131, "no such user")

    async def test_a_message_that_went_out_after_all_keeps_no_failure(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        message = outbound()
        await journal.accept(account, message)
        await journal.write(account, StatusChange(message.id, IN_DOUBT, 1, None, 8, 131, "nobody knows"))
        await journal.write(account, StatusChange(message.id, SENT, 2))
        [row] = await world.database.pool.fetch("SELECT failure, failure_code, failure_detail FROM message")
        assert tuple(row) == (0, None, "")

    async def test_each_of_several_changes_of_a_batch_has_its_event(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        message = outbound()
        await journal.accept(account, message)
        await journal.write(account, *changes(message, SENT, DELIVERED, READ))
        assert await told(world) == ["message.queued", SENT, DELIVERED, READ]

    @pytest.mark.parametrize(
        ("stored", "again", "news"),
        [
            ((SENT, DELIVERED), (DELIVERED, READ), (READ,)),
            ((SENT,), (SENT, DELIVERED, READ), (DELIVERED, READ)),
            ((SENT, READ), (DELIVERED, READ), ()),
        ],
    )
    async def test_what_the_network_tells_again_is_told_once_also_beside_news(
        self, world: World, stored: tuple[int, ...], again: tuple[int, ...], news: tuple[int, ...]
    ) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        message = outbound()
        await journal.accept(account, message)
        await journal.write(account, *changes(message, *stored))
        await journal.write(account, *changes(message, *again, again=True))
        assert await told(world) == ["message.queued", *stored, *news]

    async def test_a_service_of_the_version_before_still_writes(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        message = outbound()
        await journal.accept(account, message)
        values = zip(COLUMNS, Columns([(account, changes(message, SENT))]).arguments(), strict=True)
        known = [(column, value) for column, value in values if column.name not in _ADDED]
        names = [("me", "text"), ("number", "bigint"), *((column.name, column.type) for column, _ in known)]
        names += [("give_back", "smallint[]"), ("give_back_epoch", "bigint[]")]
        call = ", ".join(f"{name} => ${at}::{type_}" for at, (name, type_) in enumerate(names, 1))
        arguments = ["a", journal.batches + 1, *(value for _, value in known), [], []]
        assert await world.value(f"SELECT journal_write({call})", *arguments) is None
        assert await told(world) == ["message.queued", SENT]

    async def test_a_members_receipt_is_told_when_it_says_more_than_was_known(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        message = new_uuid()

        def receipts(member: str, *statuses: int) -> list[MemberReceipt]:
            return [MemberReceipt(message, member, status, 1, event(str(status))) for status in statuses]

        await journal.write(account, *receipts("m", DELIVERED, DELIVERED))
        await journal.write(account, *receipts("m", DELIVERED, READ), *receipts("n", DELIVERED))
        await journal.write(account, *receipts("m", DELIVERED), *receipts("n", READ))
        assert await told(world) == [DELIVERED, READ, DELIVERED, READ]

    async def test_a_network_that_chooses_the_id_is_found_by_it(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        message = outbound()
        await journal.accept(account, message)
        await journal.write(account, StatusChange(message.id, SENT, 1, network_id="theirs"))
        assert await world.value("SELECT network_id FROM message") == "theirs"
        assert await world.value("SELECT message FROM network_message") == message.id
        assert await journal.write(account, inbound("theirs")) == Duplicate(message.id)

    async def test_media_of_a_message_that_is_stored_are_marked_once_to_be_fetched(
        self, world: World
    ) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        message = inbound("n1")
        await journal.write(account, message)
        for _ in range(2):
            await journal.write(account, FetchBegin(message.id, b"blob"))
        row = "SELECT array_agg((message, account, shard, blob)::text) FROM media_fetch"
        [marked] = await world.value(row)
        assert str(message.id) in marked
        await journal.write(account, FetchDone(message.id))
        assert await world.count("media_fetch") == 0

    async def test_who_somebody_is_is_stored_by_name_and_completed_by_what_is_told_later(
        self, world: World
    ) -> None:
        journal = await world.journal("a")
        account, other = await world.account("a"), await world.account("a", 6)
        first = PersonIdentity("hidden:8", "+491", "", "8", "", "Ada", 1)
        later = PersonIdentity("hidden:8", "", "", "8", "ada", "", 2)
        await asyncio.gather(journal.write(account, first), journal.write(other, first))
        await asyncio.gather(journal.write(account, later), journal.write(account, later))
        messages = MessageStore(world.database.pool)
        merged = {"phone": "+491", "user_id": "", "hidden_id": "8", "username": "ada", "display_name": "Ada"}
        for address in ("hidden:8", "phone:+491", "username:ada"):
            [row] = await messages.identities(account.uuid, [address])
            assert dict(row) == merged
        assert await messages.identities(account.uuid, ["phone:+492", "user:8", "username:"]) == []
        [others] = await messages.identities(other.uuid, ["hidden:8"])
        assert others["username"] == ""

    async def test_receipts_of_members_only_rise(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        message = new_uuid()
        await journal.write(
            account, MemberReceipt(message, "m", READ, 1), MemberReceipt(message, "m", DELIVERED, 2)
        )
        await journal.write(account, MemberReceipt(message, "m", DELIVERED, 3))
        assert await world.value("SELECT status FROM message_receipt") == READ


class TestInbound:
    async def test_a_message_from_the_network_is_stored_with_its_event_and_media_mark(
        self, world: World
    ) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        message = inbound("n1", media=b"where", network_time=9_000_000)
        assert await journal.write(account, message) == COMMITTED
        [row] = await world.database.pool.fetch("SELECT * FROM message")
        assert (row["id"], row["direction"], row["status"], row["content"]) == (message.id, 2, 0, b"hello")
        assert row["network_time"].timestamp() == 9
        [fetch] = await world.database.pool.fetch("SELECT * FROM media_fetch")
        assert (fetch["message"], fetch["shard"], fetch["blob"]) == (message.id, account.shard, b"where")
        assert await world.value("SELECT type FROM event") == "message.received"

    async def test_a_repeat_is_recognised_and_writes_nothing_but_what_stands_beside_it(
        self, world: World
    ) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        first = inbound("n1")
        await journal.write(account, first)
        repeated = journal.write(account, inbound("n1", media=b"m"), Credential(b"advanced"))
        new = journal.write(account, inbound("n2"))
        assert await repeated == Duplicate(first.id)
        assert await new == COMMITTED
        assert await world.count("message") == await world.count("event") == 2
        assert await world.count("media_fetch") == 0
        assert await world.value("SELECT blob FROM credential") == b"advanced"

    async def test_a_repeat_in_the_same_batch(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        first = inbound("n1")
        outcomes = await asyncio.gather(*[journal.write(account, row) for row in (first, inbound("n1"))])
        assert outcomes == [COMMITTED, Duplicate(first.id)]

    async def test_media_is_fetched_once(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        message = inbound("n1", media=b"m")
        await journal.write(account, message)
        await journal.write(account, FetchRetry(message.id, 60_000_000))
        [fetch] = await world.database.pool.fetch("SELECT attempts, due_at FROM media_fetch")
        assert (fetch["attempts"], fetch["due_at"].timestamp()) == (1, 60)
        await journal.write(account, ContentUpdate(message.id, b"with media"), FetchDone(message.id))
        assert await world.count("media_fetch") == 0
        assert await world.value("SELECT content FROM message") == b"with media"

    async def test_an_edit_has_its_time_which_later_media_leave(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        message = inbound("n1")
        await journal.write(account, message)
        await journal.write(account, ContentUpdate(message.id, b"edited", 9_000_000))
        await journal.write(account, ContentUpdate(message.id, b"with media"))
        [row] = await world.database.pool.fetch("SELECT content, edit_time FROM message")
        assert (row["content"], row["edit_time"].timestamp()) == (b"with media", 9)

    async def test_what_another_device_sent_is_outbound_and_not_this_apis(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        await journal.write(account, inbound("n1", direction=1, status=SENT))
        await journal.write(account, inbound("n2"))
        await journal.accept(account, outbound())
        rows = await world.database.pool.fetch("SELECT direction, origin, status FROM message ORDER BY id")
        assert [tuple(row) for row in rows] == [(1, 2, SENT), (2, 0, 0), (1, 1, QUEUED)]


class TestSessions:
    async def test_the_last_state_is_stored_with_its_event(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        journal.post(account, SessionSnapshot(node="a", state=3, update_time=1), event("session.changed"))
        journal.post(
            account, SessionSnapshot(node="a", state=4, update_time=2, phone="+49"), event("session.changed")
        )
        await journal.flush()
        [row] = await world.database.pool.fetch("SELECT * FROM session")
        assert (row["account"], row["tenant"], row["epoch"]) == (account.uuid, account.tenant, account.epoch)
        assert (row["state"], row["phone"], row["connect_time"]) == (4, "+49", None)
        assert await world.count("event") == 2

    async def test_ends_of_connections_are_kept(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        await journal.write(account, Disconnect(new_uuid(), 6, "reset", "a", None, 5_000_000))
        [row] = await world.database.pool.fetch("SELECT * FROM disconnect")
        assert (row["cause"], row["detail"], row["disconnect_time"].timestamp()) == (6, "reset", 5)

    async def test_a_credential_is_replaced(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        await journal.write(account, Credential(b"one"), Credential(b"two"))
        await journal.write(account, Credential(b"three"))
        assert await world.value("SELECT blob FROM credential") == b"three"


class TestPostgresAway:
    @pytest.mark.slow
    async def test_what_was_acknowledged_under_killed_connections_is_stored_once(self, world: World) -> None:
        """No request ids to save us: only the batch's number tells a resend from a new batch."""
        journal = await world.journal("a")
        accounts = [await world.account("a", shard) for shard in range(8)]
        acknowledged: list[object] = []
        kills = 0
        enough = asyncio.Event()

        async def caller() -> None:
            while not enough.is_set():
                message = outbound()
                if await journal.accept(random.choice(accounts), message) == COMMITTED:
                    acknowledged.append(message.id)

        async def killer() -> None:
            nonlocal kills
            while kills < 25:
                before = len(acknowledged)
                await eventually(partial(_longer, acknowledged, before + random.randrange(40)))
                connection = journal._sender._connection
                if kills % 2 and connection is not None:
                    connection.terminate()  # the server may still run the batch, later than the resend
                    kills += 1
                else:
                    kills += len(
                        await world.database.pool.fetch(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                            " WHERE datname = current_database() AND query LIKE 'SELECT journal_write%'"
                        )
                    )
            enough.set()

        await asyncio.gather(killer(), *[caller() for _ in range(50)])
        assert len(acknowledged) == len(set(acknowledged)) == await world.count("message")
        assert await world.count("event") == await world.count("outbox") == len(acknowledged)

    async def test_a_batch_that_landed_unheard_is_answered_as_the_first_time(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        first = outbound("same")
        await journal.accept(account, first)
        again = outbound("same")
        await journal.accept(account, again)
        journal._sender.number -= 1  # as if its answer had been lost
        assert await journal.accept(account, again) == Duplicate(first.id)
        assert await world.count("node_journal") == 2

    async def test_answers_of_an_expired_incarnation_are_forgotten_by_the_next_one(
        self, world: World
    ) -> None:
        old, new = await world.journal("old"), await world.journal("new")
        await old.write(await world.account("old"), event())
        await world.database.pool.execute("UPDATE node_incarnation SET expired = true WHERE id = 'old'")
        await new.write(await world.account("new"), event())
        assert await world.value("SELECT array_agg(incarnation) FROM node_journal") == ["new"]

    async def test_callers_wait_while_postgres_is_away_up_to_a_bound(self, world: World) -> None:
        journal = await world.journal("a", bound=10)
        account = await world.account("a")
        async with world.database.pool.acquire() as blocker:
            transaction = blocker.transaction()
            await transaction.start()
            await blocker.execute("SELECT FROM node_incarnation FOR UPDATE")
            calls: list[asyncio.Future[Outcome]] = [journal.accept(account, outbound()) for _ in range(10)]
            with pytest.raises(Unavailable) as refusal:
                journal.accept(account, outbound())
            assert (refusal.value.reason, refusal.value.retry_after) == ("BACKEND_UNAVAILABLE", 1.0)
            journal.post(account, event())  # never refused
            await world.batch_is_blocked()
            assert not any(call.done() for call in calls)
            await transaction.rollback()
        assert await asyncio.gather(*calls) == [COMMITTED] * 10

    async def test_stopping_tells_those_who_wait(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        async with world.database.pool.acquire() as blocker, blocker.transaction():
            await blocker.execute("SELECT FROM node_incarnation FOR UPDATE")
            sent = journal.accept(account, outbound())
            await world.batch_is_blocked()
            unsent = journal.accept(account, outbound())
            await world.stop()
            for call in (sent, unsent):
                with pytest.raises(Unavailable):
                    await call


async def _longer(items: list[object], size: int) -> bool:
    return len(items) > size


def changes(message: OutboundMessage, *statuses: int, again: bool = False) -> list[StatusChange]:
    """Changes of a message's status, each with an event that is named for it."""
    return [StatusChange(message.id, status, 1, event(str(status)), again=again) for status in statuses]


async def told(world: World) -> list[str | int]:
    """The events in their order, as the statuses that they are named for."""
    types: list[str] = await world.value("SELECT array_agg(type ORDER BY xid, seq) FROM event")
    return [int(type_) if type_.isdigit() else type_ for type_ in types]


async def _resent(times: float) -> bool:
    return bool(RESENT._value.get() >= times)


_ADDED = ("e_become", "e_receipt", "people", "marks", "places")
"""Columns that the version before does not have."""
