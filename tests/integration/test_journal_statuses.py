"""What the journal stores of messages that are sent and received, and of sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import product
from typing import Any, cast

import pytest

from mesh_core.ids import new_uuid
from mesh_core.message_status import may_become
from mesh_session_node.journal import (
    COMMITTED,
    ContentUpdate,
    Credential,
    Disconnect,
    Duplicate,
    FetchBegin,
    FetchDone,
    FetchRetry,
    OutboundMessage,
    PersonIdentity,
    ReceiptPart,
    SessionSnapshot,
    StatusChange,
)
from mesh_session_node.journal.batch import COLUMNS, Columns
from mesh_session_node.store.messages import MessageStore
from sessionmesh.internal.v1 import receipt_record_pb2
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


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    async with open_world(postgres_url) as opened:
        yield opened


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

    async def test_receipts_that_a_service_of_the_version_before_writes_only_rise(self, world: World) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        message = outbound()
        await journal.accept(account, message)

        async def write(*statuses: int) -> None:
            events = [event(str(status)) for status in statuses]
            values = zip(COLUMNS, Columns([(account, events)]).arguments(), strict=True)
            known = [(column, value) for column, value in values if column.name not in _ADDED]
            names = [("me", "text"), ("number", "bigint"), *((c.name, c.type) for c, _ in known)]
            names += [("give_back", "smallint[]"), ("give_back_epoch", "bigint[]")]
            names += [("receipts", "journal_receipt[]"), ("e_receipt", "int[]")]
            call = ", ".join(f"{name} => ${at}::{type_}" for at, (name, type_) in enumerate(names, 1))
            number = await world.value("SELECT max(batch) + 1 FROM node_journal WHERE incarnation = 'a'")
            rows = [(1, message.id, "m", status, 1) for status in statuses]
            told_of = [*range(1, len(rows) + 1)]
            arguments = ["a", number, *(value for _, value in known), [], [], rows, told_of]
            assert await world.value(f"SELECT journal_write({call})", *arguments) is None

        await write(READ)
        await write(DELIVERED)
        assert await world.value("SELECT status FROM message_receipt") == READ
        assert await told(world) == ["message.queued", READ]

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

    async def test_receipts_of_members_are_stored_in_parts_and_listed_with_rows_of_before(
        self, world: World
    ) -> None:
        journal = await world.journal("a")
        account = await world.account("a")
        message, part = new_uuid(), ReceiptPart(new_uuid(), new_uuid(), _part(SENT, "x"))
        await world.database.pool.execute("INSERT INTO message_receipt VALUES ($1, 'b', 50, now())", message)
        await world.database.pool.execute("INSERT INTO message_receipt VALUES ($1, 'e', 40, now())", message)
        for status, members in ((DELIVERED, "abd"), (READ, "ae"), (DELIVERED, "c")):
            await journal.write(account, ReceiptPart(message, new_uuid(), _part(status, members)))
        await journal.write(account, part, part)
        receipts = MessageStore(world.database.pool).receipts
        assert [(one.member, one.status) for one in await receipts.of(message, "", 10)] == [
            ("a", READ),
            ("b", READ),
            ("c", DELIVERED),
            ("d", DELIVERED),
            ("e", READ),
        ]
        assert [one.member for one in await receipts.of(message, "b", 2)] == ["c", "d"]
        assert {*await receipts.heard([message, new_uuid()])} == {message}
        assert await world.count("message_receipt_part") == 4


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


def changes(message: OutboundMessage, *statuses: int, again: bool = False) -> list[StatusChange]:
    """Changes of a message's status, each with an event that is named for it."""
    return [StatusChange(message.id, status, 1, event(str(status)), again=again) for status in statuses]


async def told(world: World) -> list[str | int]:
    """The events in their order, as the statuses that they are named for."""
    types: list[str] = await world.value("SELECT array_agg(type ORDER BY xid, seq) FROM event")
    return [int(type_) if type_.isdigit() else type_ for type_ in types]


def _part(status: int, members: str) -> bytes:
    """A letter is a member."""
    receipts = receipt_record_pb2.ReceiptPart(status=cast("Any", status), members=[*members])
    receipts.times.extend(range(1, len(members) + 1))
    return receipts.SerializeToString()


_ADDED = ("e_become", "people", "marks", "places", "parts")
"""Columns that the version before does not have."""
