"""Old data goes, and nothing goes that somebody still needs: over a real Postgres, in days that are faked."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mesh_core.database.requests import RecordKind
from mesh_core.errors import OutOfRange
from mesh_core.events import EventListener, EventReader, expiry
from mesh_core.ids import new_uuid
from mesh_router.retention import Policy, Retention, runner
from mesh_router.retention.purge import ACCOUNT_TABLES
from tests.support.eventually import eventually
from tests.support.old_days import NOON, QUEUED, WEEK, OldDays, id_of, old_days

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[OldDays]:
    async with old_days(postgres_url) as opened:
        yield opened


class TestDays:
    async def test_days_that_are_wholly_older_than_the_retention_are_dropped(self, world: OldDays) -> None:
        for age in (9, 8, 7, 0):
            await world.message(age * DAY)
            await world.event(age * DAY)
        assert await world.run()
        for table in ("message", "event"):
            assert await world.days(table) == [(NOON - age * DAY).date() for age in (7, 0)]

    async def test_a_message_that_waits_keeps_its_day_and_the_day_is_emptied_of_all_others(
        self, world: OldDays
    ) -> None:
        waiting = await world.message(20 * DAY, status=QUEUED)
        done = await world.message(20 * DAY)
        assert await world.run()
        assert await world.content(waiting) == b"body"
        assert not await world.has("message", done)
        await world.execute("DELETE FROM outbox")
        assert await world.run()
        assert await world.days("message") == []

    async def test_however_much_waits_of_one_tenant_the_contents_of_others_go(self, world: OldDays) -> None:
        waiting = await world.message(20 * DAY, status=QUEUED)
        _, neighbour = await world.new_tenant()
        others = await world.message(20 * DAY, account=neighbour)
        await world.execute(
            "INSERT INTO outbox"
            " SELECT 5, overlay($1::uuid::text placing lpad(n::text, 12, '0') from 25)::uuid, $2, 0, now()"
            " FROM generate_series(1, 20000) AS n",
            waiting,
            world.account,
        )
        assert await world.run()
        assert await world.content(waiting) == b"body"
        assert not await world.has("message", others)

    async def test_media_that_are_still_to_be_fetched_keep_their_messages_day(self, world: OldDays) -> None:
        message = await world.message(20 * DAY)
        await world.execute(
            "INSERT INTO media_fetch (message, account, shard, blob) VALUES ($1, $2, 5, '')",
            message,
            world.account,
        )
        assert await world.run()
        assert await world.has("message", message)

    async def test_events_that_the_webhooks_have_not_read_stay(self, world: OldDays) -> None:
        await world.endpoint()
        event = await world.event(9 * DAY)
        assert await world.run()
        assert await world.has("event", event)
        await world.webhooks_read_all()
        assert await world.run()
        assert await world.days("event") == []

    async def test_events_wait_for_no_webhooks_where_nobody_has_an_endpoint(self, world: OldDays) -> None:
        await world.event(9 * DAY)
        assert await world.run()
        assert await world.days("event") == []

    async def test_a_reader_that_is_days_behind_is_given_up_with_an_alarm(
        self, world: OldDays, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await world.endpoint()
        await world.event(15 * DAY)
        await world.event(14 * DAY)
        assert await world.run()
        assert await world.days("event") == [(NOON - 14 * DAY).date()]
        assert "reader_expired" in capsys.readouterr().out

    async def test_a_busy_table_is_left_to_the_next_run_and_stops_nobody(self, world: OldDays) -> None:
        await world.message(9 * DAY)
        await world.event(9 * DAY)
        async with world.database.pool.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE message IN ACCESS SHARE MODE")
            assert not await world.run()
        assert await world.days("message") == [(NOON - 9 * DAY).date()]
        assert await world.days("event") == []

    async def test_receipts_go_with_the_messages_of_their_day(self, world: OldDays) -> None:
        gone, kept = await world.message(9 * DAY), await world.message(DAY)
        for message in (gone, kept):
            await world.execute("INSERT INTO message_receipt VALUES ($1, 'phone:+491', 40, now())", message)
            await world.execute("INSERT INTO message_receipt_part VALUES ($1, $1, '')", message)
        assert await world.run()
        assert await world.value("SELECT array_agg(message) FROM message_receipt") == [kept]
        assert await world.value("SELECT array_agg(message) FROM message_receipt_part") == [kept]

    async def test_votes_go_once_they_are_older_than_every_message(self, world: OldDays) -> None:
        await world.message(DAY)
        vote = "INSERT INTO account_record VALUES ($1, $2, 'poll', $3, '', $4)"
        await world.execute(vote, world.account, RecordKind.POLL_VOTE, "phone:+491", NOON - 9 * DAY)
        await world.execute(vote, world.account, RecordKind.POLL_VOTE, "phone:+492", NOON - DAY / 2)
        await world.execute(vote, world.account, 99, "phone:+493", NOON - 9 * DAY)
        assert await world.run()
        left = "SELECT array_agg(member ORDER BY member) FROM account_record"
        assert await world.value(left) == ["phone:+492", "phone:+493"]


class TestShorterTenants:
    async def test_contents_and_events_of_a_tenant_go_when_it_asked_for_that(self, world: OldDays) -> None:
        tenant, account = await world.new_tenant(6 * HOUR)
        old, new = [await world.message(age * HOUR, account=account) for age in (7, 5)]
        others = await world.message(7 * HOUR)
        old_event, new_event = [await world.event(age * HOUR, tenant) for age in (7, 5)]
        others_event = await world.event(7 * HOUR)
        assert await world.run()
        assert [await world.content(message) for message in (old, new, others)] == [b"", b"body", b"body"]
        assert not await world.has("event", old_event)
        assert await world.has("event", new_event)
        assert await world.has("event", others_event)

    async def test_a_message_that_waits_keeps_its_content(self, world: OldDays) -> None:
        _, account = await world.new_tenant(HOUR)
        waiting = await world.message(7 * HOUR, account=account, status=QUEUED)
        assert await world.run()
        assert await world.content(waiting) == b"body"

    async def test_what_a_sweep_passed_over_is_found_by_the_next(self, world: OldDays) -> None:
        _, account = await world.new_tenant(HOUR)
        message = await world.message(HOUR + timedelta(minutes=30), account=account)
        async with world.database.pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM message WHERE id = $1 FOR UPDATE", message)
            assert await world.run()
        assert await world.content(message) == b"body"
        assert await world.run(now=NOON + HOUR)
        assert await world.content(message) == b""

    async def test_events_that_the_webhooks_have_not_read_stay(self, world: OldDays) -> None:
        tenant, _ = await world.new_tenant(HOUR)
        await world.endpoint(tenant)
        event = await world.event(7 * HOUR, tenant)
        assert await world.run()
        assert await world.has("event", event)
        await world.webhooks_read_all()
        assert await world.run()
        assert not await world.has("event", event)

    async def test_a_cursor_before_the_deleted_events_has_expired_for_this_tenant_only(
        self, world: OldDays
    ) -> None:
        tenant, _ = await world.new_tenant(HOUR)
        await world.event(7 * HOUR, tenant)
        reader = await EventReader.open(world.database, EventListener(world.database))
        before = await reader.oldest()
        assert await world.run()
        with pytest.raises(OutOfRange):
            await reader.check(before, tenant)
        await reader.check(await reader.oldest(tenant), tenant)
        await reader.check(before, world.tenant)

    async def test_a_longer_wish_is_capped(self, world: OldDays) -> None:
        _, account = await world.new_tenant(100 * DAY)
        await world.message(9 * DAY, account=account)
        assert await world.run()
        assert await world.days("message") == []

    async def test_where_days_stand_longer_a_tenant_without_a_wish_keeps_contents_for_the_default(
        self, world: OldDays
    ) -> None:
        _, patient = await world.new_tenant(20 * DAY)
        message = await world.message(9 * DAY)
        kept = await world.message(9 * DAY, account=patient)
        assert await world.run(Policy.of_days(7, 30))
        assert await world.content(message) == b""
        assert await world.content(kept) == b"body"

    async def test_ended_deliveries_go_and_pending_ones_stay(self, world: OldDays) -> None:
        tenant, _ = await world.new_tenant(HOUR)
        states = {}
        for state in (1, 2):
            delivery = states[state] = id_of(NOON - 2 * HOUR)
            await world.execute(
                "INSERT INTO webhook_delivery (id, endpoint, tenant, event, event_type, state, body)"
                " VALUES ($1, $1, $2, $1, 't', $3, '')",
                delivery,
                tenant,
                state,
            )
        assert await world.run()
        assert await world.value("SELECT array_agg(id) FROM webhook_delivery") == [states[1]]


class TestSubscriptions:
    @pytest.fixture(autouse=True)
    async def present(self, world: OldDays, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is told now is told at noon."""
        monkeypatch.setattr(expiry, "new_uuid", lambda: id_of(NOON))
        await world.make_day("event", NOON)

    async def test_those_that_have_not_acknowledged_a_day_expire_before_it_goes(self, world: OldDays) -> None:
        first = await world.event(9 * DAY)
        last = await world.event(9 * DAY)
        await world.event(DAY)
        for name, behind in (("nothing-done", None), ("one-left", first), ("all-done", last)):
            await world.subscription(name, behind)
        assert await world.run()
        assert await world.expired() == ["nothing-done", "one-left"]
        assert not await world.has("event", last)

    async def test_they_hold_no_day(self, world: OldDays) -> None:
        await world.event(8 * DAY)
        await world.subscription("lagging")
        assert await world.run()
        assert await world.days("event") == [NOON.date()]

    async def test_those_of_a_tenant_that_keeps_events_for_less_expire_with_them(
        self, world: OldDays
    ) -> None:
        tenant, _ = await world.new_tenant(HOUR)
        event = await world.event(7 * HOUR, tenant)
        await world.event(7 * HOUR)
        await world.subscription("of-this-tenant", tenant=tenant)
        await world.subscription("of-another")
        assert await world.run()
        assert await world.expired() == ["of-this-tenant"]
        assert not await world.has("event", event)

    async def test_one_is_told_once_and_its_consumers_are_ended(self, world: OldDays) -> None:
        subscription = await world.subscription("lagging")
        await world.execute(
            "INSERT INTO subscription_consumer (id, subscription, origin, lapse_at)"
            " VALUES ($1, $1, $1, now())",
            subscription,
        )
        for age in (9, 8):
            await world.event(age * DAY)
        assert await world.run()
        assert await world.expired() == ["lagging"]
        assert not await world.value("SELECT count(*) FROM subscription_consumer")


class TestRuns:
    async def test_one_item_that_fails_stops_no_other_and_the_run_is_no_success(self, world: OldDays) -> None:
        await world.message(9 * DAY)
        await world.execute("ALTER TABLE disconnect RENAME TO elsewhere")
        before = await world.value("SELECT success_time FROM retention_run")
        assert not await world.run()
        assert await world.days("message") == []
        assert "disconnect" in await world.value("SELECT failure FROM retention_run")
        await world.execute("ALTER TABLE elsewhere RENAME TO disconnect")
        assert await world.value("SELECT success_time FROM retention_run") == before
        await eventually(world.run)  # the first may still have the lock, which goes with its connection
        assert await world.value("SELECT success_time FROM retention_run") > before

    async def test_nothing_goes_while_the_clocks_are_apart(
        self, world: OldDays, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        message = await world.message(9 * DAY)
        with monkeypatch.context() as patch:
            patch.setattr(runner, "own_time", lambda: datetime.now(UTC) - timedelta(hours=2))
            assert not await world.run()
        assert await world.has("message", message)
        assert await world.run()
        assert not await world.has("message", message)

    async def test_a_run_that_seems_to_be_ahead_does_not_put_off_the_next(self, world: OldDays) -> None:
        await world.execute("UPDATE retention_run SET start_time = now() + interval '1 year'")
        task = asyncio.create_task(Retention(world.database, WEEK).run(), name="retention")
        behind = "SELECT start_time <= now() FROM retention_run"
        await eventually(lambda: world.value(behind))
        task.cancel()

    async def test_one_runs_at_a_time(self, world: OldDays) -> None:
        await world.message(9 * DAY)
        connection = await world.database.connect_direct()
        await connection.execute("SELECT pg_advisory_lock(hashtext('sessionmesh retention'))")
        assert not await world.run()
        await connection.close()
        assert await world.run()


async def test_every_router_knows_since_when_nothing_was_deleted_and_why(world: OldDays) -> None:
    await world.execute("UPDATE retention_run SET success_time = now() - interval '25 hours', failure = 'no'")
    await world.execute("UPDATE retention_run SET start_time = now()")
    retention = Retention(world.database, WEEK)
    task = asyncio.create_task(retention.run(), name="retention")
    await eventually(lambda: retention.age > timedelta(hours=24.9).total_seconds())
    assert retention.failure == "no"
    task.cancel()


class TestAges:
    @pytest.mark.parametrize(("days", "kept"), [(29, True), (31, False)])
    async def test_rows_go_by_their_age(self, world: OldDays, days: int, *, kept: bool) -> None:
        at = NOON - days * DAY
        await world.execute(
            "INSERT INTO network_message VALUES ($1, 'network-id', $1, $2)", world.account, at
        )
        await world.execute(
            "INSERT INTO disconnect VALUES ($1, $2, 1, '', '', NULL, $3)", world.account, new_uuid(), at
        )
        await world.execute(
            "INSERT INTO api_key (id, tenant, hash, role, revoke_time) VALUES ($1, $2, '', 1, $3)",
            new_uuid(),
            world.tenant,
            at,
        )
        assert await world.run()
        for table in ("network_message", "disconnect", "api_key"):
            assert bool(await world.value(f"SELECT count(*) FROM {table}")) is kept, table

    @pytest.mark.parametrize(("days", "kept"), [(89, True), (91, False)])
    async def test_who_somebody_is_goes_when_the_network_has_not_told_it_for_long(
        self, world: OldDays, days: int, *, kept: bool
    ) -> None:
        await world.execute(
            "INSERT INTO person_identity VALUES ($1, 'user:7', '', '7', '', '', '', $2)",
            world.account,
            NOON - days * DAY,
        )
        assert await world.run()
        assert bool(await world.value("SELECT count(*) FROM person_identity")) is kept

    async def test_the_answers_of_dead_nodes_go_and_those_of_live_ones_stay(self, world: OldDays) -> None:
        for node, beat in (("live", NOON), ("dead", NOON - 2 * DAY)):
            await world.execute("INSERT INTO node_incarnation VALUES ($1, 'n', '', $2)", node, beat)
            await world.execute("INSERT INTO node_journal VALUES ($1, 1)", node)
        await world.execute("INSERT INTO node_journal VALUES ('forgotten', 1)")
        assert await world.run()
        assert await world.value("SELECT array_agg(incarnation) FROM node_journal") == ["live"]


class TestDeletedAccounts:
    async def test_an_account_is_purged_with_all_it_has_when_its_time_is_over(self, world: OldDays) -> None:
        _, other = await world.new_tenant()
        message = await world.message(DAY, status=QUEUED)
        await world.execute("INSERT INTO message_receipt VALUES ($1, 'phone:+491', 40, now())", message)
        await world.execute("INSERT INTO message_receipt_part VALUES ($1, $1, '')", message)
        for account in (world.account, other):
            for statement in _OF_AN_ACCOUNT:
                await world.execute(statement, account)
        await world.execute(
            "UPDATE account SET delete_time = $2, expire_time = $2 WHERE id = $1", world.account, NOON
        )
        assert await world.run(now=NOON - HOUR)
        assert await world.has("account", world.account)
        assert await world.run()
        for table in ACCOUNT_TABLES:
            column = {"account": "id", "request": "scope"}.get(table, "account")
            rows = f"SELECT array_agg(DISTINCT {column}) FROM {table}"
            assert await world.value(rows) in (None, [other]), table
        assert await world.value("SELECT count(*) FROM message_receipt") == 0
        assert await world.value("SELECT count(*) FROM message_receipt_part") == 0
        assert await world.has("account", other)

    async def test_every_table_with_an_account_is_known_to_the_purge(self, world: OldDays) -> None:
        named = await world.value(
            "SELECT array_agg(table_name::text) FROM information_schema.columns"
            " WHERE column_name = 'account' AND table_schema = 'public' AND table_name !~ '_[0-9]{8}$'"
        )
        # Events go with their days; what else outlives accounts goes by age.
        by_age = {"event", "media", "media_usage", "webhook_delivery", "webhook_owed", "job", "audit_event"}
        assert {*named} - by_age == {*ACCOUNT_TABLES} - {"account", "request"}

    async def test_what_a_node_wrote_of_a_purged_account_goes(self, world: OldDays) -> None:
        tables = {*ACCOUNT_TABLES} - {"account", "message", "request"}  # ids of requests go after a day
        gone = new_uuid()
        stray, kept = await world.message(DAY, account=gone), await world.message(DAY)
        for message in (stray, kept):
            await world.execute("INSERT INTO message_receipt VALUES ($1, 'phone:+491', 40, now())", message)
            await world.execute("INSERT INTO message_receipt_part VALUES ($1, $1, '')", message)
        for account in (world.account, gone):
            for table in tables:
                await world.execute(_BY_TABLE[table], account)
        assert await world.run()
        for table in (*tables, "message"):
            assert await world.value(f"SELECT array_agg(account) FROM {table}") == [world.account], table
        assert await world.value("SELECT array_agg(message) FROM message_receipt") == [kept]
        assert await world.value("SELECT array_agg(message) FROM message_receipt_part") == [kept]


_BY_TABLE = {
    "account_record": "INSERT INTO account_record VALUES ($1, 99, 'key', '', '', now())",
    "chat": "INSERT INTO chat (account, chat, last_time) VALUES ($1, 'phone:+491', now())",
    "chat_fold": "INSERT INTO chat_fold (account, until) VALUES ($1, $1)",
    "credential": "INSERT INTO credential VALUES ($1, 1, '')",
    "driver_row": "INSERT INTO driver_row VALUES ($1, 'key', '')",
    "driver_row_count": "INSERT INTO driver_row_count VALUES ($1, 1)",
    "media_fetch": "INSERT INTO media_fetch (message, account, shard, blob) VALUES ($1, $1, 5, '')",
    "media_reference": """WITH t AS (INSERT INTO tenant (id) VALUES ($1) ON CONFLICT DO NOTHING),
      m AS (INSERT INTO media (id, tenant, mime_type, original_size, origin, unprocessed)
        VALUES ($1, $1, 'image/png', 1, 1, 0) RETURNING id)
      INSERT INTO media_reference SELECT id, $1, $1, $1, 3 FROM m""",
    "outbox": "INSERT INTO outbox VALUES (5, $1, $1, 0, now())",
    "network_message": "INSERT INTO network_message VALUES ($1, 'id', $1, now() + interval '10 years')",
    "person_identity": """INSERT INTO person_identity
      VALUES ($1, 'user:7', '', '7', '', '', '', now() + interval '10 years')""",
    "disconnect": "INSERT INTO disconnect VALUES ($1, $1, 1, '', '', NULL, now() + interval '10 years')",
    "request": "INSERT INTO request VALUES ($1, 1, 'id', '', $1)",
    "session": """INSERT INTO session (account, tenant, epoch, node, state, cause, detail, phone,
      network_user_id, push_name, paired, recent_failures, sent, received, failed, connects, settings,
      update_time, hidden_id, restrictions)
      VALUES ($1, $1, 1, '', 1, 1, '', '', '', '', true, 0, 0, 0, 0, 0, '', now(), '', '')""",
}
_OF_AN_ACCOUNT = tuple(_BY_TABLE.values())


async def test_every_table_stands_in_the_documentation_with_who_deletes_from_it(world: OldDays) -> None:
    page = (Path(__file__).parents[2] / "docs" / "retention.md").read_text()
    _, below = page.split("| table | what goes, and when | who |\n")
    listed = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", below, re.MULTILINE)
    tables = await world.value(
        "SELECT array_agg(relname::text) FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
        " AND relnamespace = 'public'::regnamespace"
    )
    assert sorted(listed) == sorted(tables)
