"""The journal of a node that may write no more, of repeated requests, and of a Postgres that is away."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from functools import partial

import asyncpg
import pytest

from mesh_core.database.requests import RecordKind
from mesh_core.errors import Unavailable
from mesh_core.ids import new_uuid
from mesh_session_node.journal import (
    COMMITTED,
    REFUSED,
    AccountRecord,
    AccountRef,
    Action,
    Credential,
    Duplicate,
    FetchBegin,
    IncarnationExpired,
    JobStep,
    Mismatch,
    Outcome,
    PersonIdentity,
    Row,
    SessionSnapshot,
    StatusChange,
)
from mesh_session_node.store.records import AnsweredRequest, RecordStore, RequestStore, StoredRecord
from sessionmesh.v1 import job_pb2
from tests.support.eventually import eventually
from tests.support.journal_world import (
    QUEUED,
    SENT,
    World,
    accept_all,
    event,
    inbound,
    open_world,
    outbound,
)


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    async with open_world(postgres_url) as opened:
        yield opened


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

    async def test_the_first_answer_of_an_action_is_kept(self, world: World) -> None:
        journal, account = await world.journal("a"), await world.account("a")
        await journal.write(account, Action(6, "same", b"x", new_uuid(), answer=b"first"))
        await journal.write(account, Action(6, "same", b"x", new_uuid(), answer=b"second"))
        await journal.write(account, Action(6, "other", b"x", new_uuid()))
        requests = RequestStore(world.database.pool)
        assert await requests.answered(account.uuid, 6, "same") == AnsweredRequest(b"x", b"first")
        assert await requests.answered(account.uuid, 6, "other") == AnsweredRequest(b"x", b"")
        assert await requests.answered(account.uuid, 6, "new") is None

    async def test_the_last_change_of_a_record_is_stored(self, world: World) -> None:
        journal = await world.journal("a")
        account, other = await world.account("a", 1), await world.account("a", 2)
        records = RecordStore(world.database.pool)
        await journal.write(account, AccountRecord(1, "k", "a", b"1", 1), AccountRecord(1, "k", "a", b"2", 2))
        await journal.write(account, AccountRecord(1, "k", "b", b"3", 3), AccountRecord(1, "z", "b", b"4", 4))
        await journal.write(other, AccountRecord(1, "k", "c", b"5", 5))
        kept = [StoredRecord("a", b"2", 2, "k"), StoredRecord("b", b"3", 3, "k")]
        assert await records.of_key(account.uuid, RecordKind.POLL_VOTE, "k") == kept
        await journal.write(account, AccountRecord(1, "k", "a", None, 6))
        assert await records.of_key(account.uuid, RecordKind.POLL_VOTE, "k") == kept[1:]

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
        "row",
        [
            "status",
            "inbound",
            "credential",
            "session",
            "event",
            "action",
            "record",
            "person",
            "fetch",
            "job",
        ],
    )
    async def test_no_kind_of_row_passes_a_lost_shard(self, world: World, row: str) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        message = outbound()
        await journal.accept(account, message)
        job = new_uuid()
        await world.database.pool.execute(
            "INSERT INTO job (id, account, kind) VALUES ($1, $2, 7)", job, account.uuid
        )
        await world.give(account.shard, "b")
        rows: dict[str, Row] = {
            "status": StatusChange(message.id, SENT, 1, event()),
            "inbound": inbound("n1", media=b"m"),
            "credential": Credential(b"blob"),
            "session": SessionSnapshot(node="a", state=4, update_time=1),
            "event": event(),
            "action": Action(6, "r", b"x", new_uuid(), event(), b"answer"),
            "record": AccountRecord(1, "k", "user:7", b"v", 1),
            "person": PersonIdentity("user:7", "+491", "7", "", "", "", 1),
            "fetch": FetchBegin(message.id, b"m"),
            "job": JobStep(job, job_pb2.JOB_STATE_SUCCEEDED, 1),
        }
        assert await journal.write(account, rows[row]) == REFUSED
        assert await world.value("SELECT status FROM message") == QUEUED
        assert await world.value("SELECT state FROM job") == 1
        assert await world.count("event") == await world.count("message") == await world.count("outbox") == 1
        for table in (
            "credential",
            "session",
            "media_fetch",
            "network_message",
            "request",
            "account_record",
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
