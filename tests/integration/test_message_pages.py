"""Pages of messages, however large these are: few are read, and none is missed."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import asyncpg
import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.partitions import make_partitions
from mesh_core.ids import new_uuid
from mesh_core.paging import MAX_BYTES, Pager
from mesh_session_node.store.messages import MessageFilter, MessageStore
from sessionmesh.v1 import message_pb2

ACCOUNT = new_uuid()
SMALL = 1000
CLIENTS_TAKE = 4 * 1024 * 1024
"""The largest message that gRPC clients take by default."""
LARGE = MAX_BYTES // 4 + 1
"""Three of them fit into a page."""


@pytest.fixture
async def pool(postgres_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(postgres_url, min_size=1, max_size=1) as made:
        async with made.acquire() as connection:
            await make_partitions(connection)
        yield made


async def store(pool: asyncpg.Pool, sizes: list[int]) -> list[UUID]:
    """Messages with contents of so many bytes, which do not compress; returns their ids, oldest first."""
    ids = [new_uuid() for _ in sizes]
    await pool.executemany(
        "INSERT INTO message (id, account, epoch, direction, origin, status, chat, content)"
        " VALUES ($1, $2, 1, 1, 1, 10, '', $3)",
        [(name, ACCOUNT, os.urandom(size)) for name, size in zip(ids, sizes, strict=True)],
    )
    return ids


def shown(row: asyncpg.Record) -> message_pb2.Message:
    """As large as the row's content, a little more."""
    return message_pb2.Message(external_id="x" * len(row["content"]))


async def pages(pool: asyncpg.Pool, size: int, *, oldest_first: bool) -> tuple[list[list[UUID]], int]:
    """All pages of the account's messages, and the most rows that were read for one."""
    reader, pager = MessageStore(pool), Pager(b"key")
    found: list[list[UUID]] = []
    token, most = "", 0
    while token or not found:
        page = pager.parse(size, token, b"")
        wanted = MessageFilter(after=page.after_id, oldest_first=oldest_first)
        rows = await reader.page(ACCOUNT, wanted, page.fetch)
        messages, token = page.cut(rows, shown)
        found.append([row["id"] for row in rows[: len(messages)]])
        most = max(most, len(rows))
    return found, most


@pytest.mark.parametrize("oldest_first", [True, False])
async def test_a_page_of_large_messages_reads_no_more_than_it_shows_and_one(
    pool: asyncpg.Pool, oldest_first: bool
) -> None:
    ids = await store(pool, [LARGE] * 7)
    found, most = await pages(pool, 1000, oldest_first=oldest_first)
    assert [len(page) for page in found] == [3, 3, 1]
    assert most == 4
    assert [name for page in found for name in page] == (ids if oldest_first else ids[::-1])


async def test_a_hundred_large_texts_are_listed_in_pages_that_every_client_takes(pool: asyncpg.Pool) -> None:
    ids = await store(pool, [100_000] * 100)
    reader, pager = MessageStore(pool), Pager(b"key")
    found: list[UUID] = []
    token = ""
    while token or not found:
        page = pager.parse(1000, token, b"")
        rows = await reader.page(ACCOUNT, MessageFilter(after=page.after_id, oldest_first=True), page.fetch)
        messages, token = page.cut(rows, shown)
        assert message_pb2.ListMessagesResponse(messages=messages).ByteSize() < CLIENTS_TAKE
        found += [row["id"] for row in rows[: len(messages)]]
    assert found == ids


async def test_small_messages_fill_the_page_that_was_asked_for(pool: asyncpg.Pool) -> None:
    ids = await store(pool, [SMALL] * 25)
    found, most = await pages(pool, 10, oldest_first=True)
    assert found == [ids[:10], ids[10:20], ids[20:]]
    assert most == 11


async def test_an_account_without_messages_has_one_empty_page(pool: asyncpg.Pool) -> None:
    assert await pages(pool, 10, oldest_first=False) == ([[]], 0)
