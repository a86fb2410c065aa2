"""A migrated database with running journals, for the tests of what is written and read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from mesh_core.database import Database
from mesh_core.ids import new_uuid
from mesh_core.settings import DatabaseSettings
from mesh_session_node.journal import AccountRef, Event, InboundMessage, Journal, OutboundMessage, Outcome
from mesh_session_node.journal.writer import Stored
from tests.support.eventually import eventually

QUEUED, SENDING, SENT, DELIVERED, READ = 10, 20, 30, 40, 50
CANCELLED, FAILED, IN_DOUBT = 100, 102, 103


@dataclass
class World:
    """Journals of several nodes on one database; the first account's shard is 5."""

    database: Database
    sent: list[OutboundMessage] = field(default_factory=list)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    async def journal(
        self, node: str, *, timeout: str = "", lock_timeout: str = "", **options: Any
    ) -> Journal:
        """A running journal of a live incarnation that owns nothing yet; `timeout` is its transactions' and
        `lock_timeout` their locks', if not as always.
        """
        await self.database.pool.execute(
            "INSERT INTO node_incarnation (id, node, address) VALUES ($1, $1, '')", node
        )

        async def connect() -> asyncpg.Connection:
            connection = await self.database.connect_journal()
            for setting, value in (("transaction_timeout", timeout), ("lock_timeout", lock_timeout)):
                if value:
                    await connection.execute(f"SET {setting} = '{value}'")
            return connection

        journal = Journal(connect, node, **options)
        self.tasks[node] = asyncio.create_task(journal.run(self._on_commit), name=f"journal {node}")
        return journal

    async def give(self, shard: int, node: str) -> int:
        """Makes `node` the shard's owner; returns the new epoch."""
        epoch = await self.database.pool.fetchval(
            "UPDATE shard_fence SET holder = $2, epoch = epoch + 1, released = false WHERE shard = $1"
            " RETURNING epoch",
            shard,
            node,
        )
        return int(epoch)

    async def account(self, node: str, shard: int = 5) -> AccountRef:
        """An account under a new tenure of its shard."""
        return AccountRef(new_uuid(), new_uuid(), shard, await self.give(shard, node))

    async def count(self, table: str) -> int:
        return int(await self.database.pool.fetchval(f"SELECT count(*) FROM {table}"))

    async def value(self, query: str, *arguments: object) -> Any:
        return await self.database.pool.fetchval(query, *arguments)

    async def batch_is_blocked(self) -> None:
        """Returns once a journal's batch waits for a lock."""
        await self._is_blocked("SELECT journal_write%")

    async def takeover_is_blocked(self) -> None:
        """Returns once a takeover waits for a lock."""
        await self._is_blocked("%take_shards%")

    async def _is_blocked(self, pattern: str) -> None:
        await eventually(
            lambda: self.value(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND query LIKE $1 AND wait_event_type = 'Lock'",
                pattern,
            )
        )

    async def slow_down(self, chat: str, seconds: float) -> None:
        """Each message of this chat takes so long to store."""
        await self.database.pool.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN PERFORM pg_sleep({seconds}); RETURN new; END $$;"
            " CREATE TRIGGER slow BEFORE INSERT ON message FOR EACH ROW"
            f" WHEN (new.chat = '{chat}') EXECUTE FUNCTION slow()"
        )

    async def slow_all_down(self, seconds: float) -> None:
        """Each batch takes so long to store, whatever is in it."""
        await self.database.pool.execute(
            "CREATE FUNCTION slow_batch() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN PERFORM pg_sleep({seconds}); RETURN new; END $$;"
            " CREATE TRIGGER slow_batch BEFORE INSERT ON node_journal FOR EACH ROW"
            " WHEN (new.answer IS NULL) EXECUTE FUNCTION slow_batch()"
        )

    async def end_slowness(self) -> None:
        """What `slow_all_down` did."""
        await self.database.pool.execute("DROP TRIGGER slow_batch ON node_journal")

    async def stop(self) -> None:
        for task in self.tasks.values():
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def _on_commit(self, committed: Stored) -> None:
        self.sent.extend(message for _, message in committed)


@asynccontextmanager
async def open_world(url: str) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        database = await Database.open(DatabaseSettings(url=url))
        stack.push_async_callback(database.close)
        world = World(database)
        stack.push_async_callback(world.stop)
        yield world


async def accept_all(
    journal: Journal, messages: Sequence[tuple[AccountRef, OutboundMessage]]
) -> list[Outcome]:
    """Messages that are accepted in one turn of the loop, and so come into one batch; their outcomes."""
    return await asyncio.gather(*[journal.accept(owner, message) for owner, message in messages])


def outbound(request_id: str = "", **fields: Any) -> OutboundMessage:
    """A message with content that is of no interest."""
    values: dict[str, Any] = {"digest": b"sixteen bytes ok", "chat": "chat", "content": b"content"} | fields
    return OutboundMessage(id=new_uuid(), request_id=request_id, event=event("message.queued"), **values)


def inbound(network_id: str, **fields: Any) -> InboundMessage:
    """A message from the network."""
    return InboundMessage(
        id=new_uuid(),
        network_id=network_id,
        chat="chat",
        content=b"hello",
        event=event("message.received"),
        **fields,
    )


def event(kind: str = "test.event", body: bytes = b"body") -> Event:
    return Event(new_uuid(), kind, body)
