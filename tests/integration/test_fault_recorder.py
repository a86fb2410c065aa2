"""The history that fault tests judge by: violations made in a real database are on record, and found."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from mesh_core.ids import Prefix, encode, new_uuid
from tests.faults.fleet.history import Kind, check_changes
from tests.faults.fleet.recorder import read_changes, read_outcome, record_history

TAKE = "SELECT take_shards('{7}', ARRAY[$2::bigint], $1, '{}', '7 s', '1 s')"
Write = Callable[[asyncpg.Pool, object], Awaitable[object]]


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[asyncpg.Pool]:
    """Shard 7 was taken by incarnation `a`, then by `b`, who judged `a` dead: it is at epoch 2."""
    pool = await asyncpg.create_pool(postgres_url, min_size=1, max_size=2)
    await record_history(pool)
    for incarnation in ("a", "b"):
        await pool.execute(
            "INSERT INTO node_incarnation (id, node, address) VALUES ($1, $1, '')", incarnation
        )
    await pool.execute(TAKE, "a", 1)
    await pool.execute("UPDATE node_incarnation SET beat_at = beat_at - interval '1 day' WHERE id = 'a'")
    await pool.execute(TAKE, "b", 1)
    yield pool
    await pool.close()


@pytest.fixture
async def account(database: asyncpg.Pool) -> object:
    """An account of shard 7."""
    tenant, account = new_uuid(), new_uuid()
    await database.execute("INSERT INTO tenant (id) VALUES ($1)", tenant)
    await database.execute(
        "INSERT INTO account (id, tenant, driver, shard) VALUES ($1, $2, 'simulated', 7)", account, tenant
    )
    return account


async def write_message(database: asyncpg.Pool, account: object, epoch: int = 1) -> object:
    message = new_uuid()
    await database.execute(
        "INSERT INTO message (id, account, epoch, direction, status, chat, content, origin)"
        " VALUES ($1, $2, $3, 1, 10, '', '', 1)",
        message,
        account,
        epoch,
    )
    return message


async def write_event(database: asyncpg.Pool, account: object) -> object:
    return await database.execute(
        "INSERT INTO event (id, seq, tenant, account, epoch, type, body) VALUES ($1, 1, $1, $2, 1, '', '')",
        new_uuid(),
        account,
    )


async def write_credential(database: asyncpg.Pool, account: object) -> object:
    return await database.execute("INSERT INTO credential VALUES ($1, 1, '')", account)


async def write_session(database: asyncpg.Pool, account: object) -> object:
    return await database.execute(
        "INSERT INTO session SELECT (jsonb_populate_record(NULL::session, $2::text::jsonb || to_jsonb(s))).*"
        " FROM (SELECT $1::uuid AS account, $1::uuid AS tenant) s",
        account,
        '{"epoch": 1, "node": "", "state": 1, "cause": 0, "detail": "", "phone": "", "network_user_id": "",'
        ' "push_name": "", "paired": true, "recent_failures": 0, "sent": 0, "received": 0, "failed": 0,'
        ' "connects": 0, "settings": "", "hidden_id": "", "restrictions": "",'
        ' "update_time": "2026-01-01T00:00:00Z"}',
    )


async def test_a_takeover_is_on_record_as_it_went(database: asyncpg.Pool) -> None:
    changes = await read_changes(database)
    assert [(one.kind, one.key or one.holder, one.epoch) for one in changes] == [
        (Kind.FENCE, "a", 1),
        (Kind.EXPIRED, "a", 0),
        (Kind.FENCE, "b", 2),
    ]
    assert check_changes(changes) == []


@pytest.mark.parametrize("write", [write_message, write_event, write_credential, write_session])
async def test_a_row_of_the_former_owner_is_found(
    database: asyncpg.Pool, account: object, write: Write
) -> None:
    await write(database, account)
    [finding] = check_changes(await read_changes(database))
    assert "at epoch 1, the shard's was 2" in finding


async def test_a_status_that_falls_is_found(database: asyncpg.Pool, account: object) -> None:
    message = await write_message(database, account, epoch=2)
    for status in (40, 30):
        await database.execute("UPDATE message SET status = $2 WHERE id = $1", message, status)
    [finding] = check_changes(await read_changes(database))
    assert "from status 40 to 30" in finding


async def test_a_shard_taken_behind_the_functions_back_is_found(database: asyncpg.Pool) -> None:
    await database.execute("UPDATE shard_fence SET holder = 'c', epoch = 3 WHERE shard = 7")
    [finding] = check_changes(await read_changes(database))
    assert "taken by c from b, which lived" in finding


async def test_the_order_is_that_of_commits_not_of_writes(
    database: asyncpg.Pool, account: object, postgres_url: str
) -> None:
    """A row that was written before the takeover, by a transaction that ended after it."""
    late = await asyncpg.connect(postgres_url)
    transaction = late.transaction()
    await transaction.start()
    await late.execute(
        "INSERT INTO event (id, seq, tenant, account, epoch, type, body) VALUES ($1, 1, $1, $2, 2, '', '')",
        new_uuid(),
        account,
    )
    await database.execute("UPDATE shard_fence SET released = true WHERE shard = 7")
    await transaction.commit()
    await late.close()
    [finding] = check_changes(await read_changes(database))
    assert "which was released" in finding


async def test_the_outcome_names_what_callers_know(database: asyncpg.Pool, account: object) -> None:
    message = await write_message(database, account, epoch=2)
    await database.execute("INSERT INTO request VALUES ($1, 1, 'one', '', $2)", account, message)
    await database.execute("INSERT INTO outbox VALUES (7, $2, $1, 0, now())", account, message)
    name, message_name = encode(Prefix.ACCOUNT, account), encode(Prefix.MESSAGE, message)  # type: ignore[arg-type] # asyncpg's UUIDs
    outcome = await read_outcome(database, [name])
    assert outcome.requests == {(name, "one"): message_name}
    assert outcome.statuses == {message_name: 10}
    assert list(outcome.outbox) == [message_name]
