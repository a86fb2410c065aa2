"""Request ids inside a caller's own transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from mesh_core.database.requests import Method, claim_request, forget_requests, payload_digest
from mesh_core.errors import AlreadyExists
from mesh_core.ids import new_uuid
from tests.support.eventually import eventually


@pytest.fixture
async def connection(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    opened = await asyncpg.connect(postgres_url)
    yield opened
    await opened.close()


METHOD = Method.CREATE_ACCOUNT
DIGEST = payload_digest(b"payload")


async def test_the_first_request_goes_on(connection: asyncpg.Connection) -> None:
    assert await claim_request(connection, new_uuid(), METHOD, "r", DIGEST, new_uuid()) is None


async def test_a_repeat_gets_the_first_result(connection: asyncpg.Connection) -> None:
    scope, first = new_uuid(), new_uuid()
    await claim_request(connection, scope, METHOD, "r", DIGEST, first)
    assert await claim_request(connection, scope, METHOD, "r", DIGEST, new_uuid()) == first


async def test_another_payload_under_the_same_id_is_refused(connection: asyncpg.Connection) -> None:
    scope = new_uuid()
    await claim_request(connection, scope, METHOD, "r", DIGEST, new_uuid())
    with pytest.raises(AlreadyExists) as refusal:
        await claim_request(connection, scope, METHOD, "r", payload_digest(b"other"), new_uuid())
    assert refusal.value.reason == "REQUEST_ID_REUSED"


async def test_an_id_counts_for_one_scope_and_method(connection: asyncpg.Connection) -> None:
    scope = new_uuid()
    for where, method in ((scope, METHOD), (new_uuid(), METHOD), (scope, Method.CREATE_ENDPOINT)):
        assert await claim_request(connection, where, method, "r", DIGEST, new_uuid()) is None


async def test_of_two_at_once_one_goes_on_and_the_other_gets_its_result(
    connection: asyncpg.Connection, postgres_url: str
) -> None:
    scope, first = new_uuid(), new_uuid()
    rival = await asyncpg.connect(postgres_url)
    transaction = rival.transaction()
    await transaction.start()
    await claim_request(rival, scope, METHOD, "r", DIGEST, first)
    second = asyncio.create_task(claim_request(connection, scope, METHOD, "r", DIGEST, new_uuid()))
    await eventually(lambda: rival.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
    await transaction.commit()
    assert await second == first
    await rival.close()


async def test_a_request_that_was_rolled_back_may_come_again(connection: asyncpg.Connection) -> None:
    scope = new_uuid()
    transaction = connection.transaction()
    await transaction.start()
    await claim_request(connection, scope, METHOD, "r", DIGEST, new_uuid())
    await transaction.rollback()
    assert await claim_request(connection, scope, METHOD, "r", DIGEST, new_uuid()) is None


async def test_ids_are_forgotten_after_a_day(connection: asyncpg.Connection) -> None:
    scope = new_uuid()
    for request in ("old", "young"):
        await claim_request(connection, scope, METHOD, request, DIGEST, new_uuid())
    await connection.execute(
        "UPDATE request SET created_at = now() - interval '24 hours 1 second' WHERE request_id = 'old'"
    )
    assert await forget_requests(connection) == 1
    assert await connection.fetchval("SELECT request_id FROM request") == "young"
