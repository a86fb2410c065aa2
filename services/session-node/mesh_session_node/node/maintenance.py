"""Recurring work: on the tables that the journal writes, and on every session of the node."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from mesh_core.database import UNAVAILABLE, Database
from mesh_core.database.partitions import make_partitions
from mesh_core.database.requests import forget_requests
from mesh_core.errors import StartupError
from mesh_core.ownership.participant.fence import forget_incarnations
from mesh_session_node.account.session import Session
from mesh_session_node.store.chats import ChatStore

logger = structlog.get_logger(__name__)

PATIENCE = 2.5
"""Keepalive periods without a sign of life after which a connection is taken for lost."""


async def prepare(database: Database) -> None:
    """Make the partitions of the next days, before the first message is written. Raises `StartupError`."""
    try:
        await _make_partitions(database)
    except UNAVAILABLE as error:
        raise StartupError(f"partitions cannot be made: {error}") from None


async def maintain_tables(database: Database) -> None:
    """Make partitions and delete old requests and incarnations, hourly, until cancelled. Any number of nodes
    may do so at once.
    """
    while True:
        await asyncio.sleep(_TABLES_SECONDS)
        for step in (_make_partitions, _forget_old):
            try:
                await step(database)
            except UNAVAILABLE as error:
                logger.warning("maintenance did not finish; there are partitions for days", error=repr(error))
            except Exception:  # the other step, and the next hour, go on
                logger.exception("maintenance did not finish; there are partitions for days")


async def keep_alive(sessions: Mapping[str, Session], period: float) -> None:
    """Calls each session's `keepalive` once every `period` seconds, a slice of them at a time, until
    cancelled.
    """
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        turn = list(sessions.values())
        size = int(-(-len(turn) * _TICK_SECONDS // period))
        for at in range(0, len(turn), max(1, size)):
            now = loop.time()
            for session in turn[at : at + size]:
                try:
                    if not session.context.closed:
                        session.keepalive(now, period * PATIENCE)
                except Exception:  # one account's: the others are kept alive
                    logger.exception("a session was not kept alive", account_id=session.id)
            await asyncio.sleep(_TICK_SECONDS)
        await asyncio.sleep(max(_TICK_SECONDS, began + period - loop.time()))


async def reconcile(period: float, *steps: Callable[[], Awaitable[None]]) -> None:
    """Takes the steps every `period` of seconds, until cancelled; one that fails is tried again then."""
    while True:
        await asyncio.sleep(period)
        for step in steps:
            try:
                await step()
            except UNAVAILABLE as error:
                logger.warning("accounts not reconciled", error=repr(error))
            except Exception:  # tried again in the next round
                logger.exception("accounts not reconciled")


async def _forget_old(database: Database) -> None:
    async with database.pool.acquire() as connection:
        while await forget_requests(connection):
            pass
        await forget_incarnations(connection)


async def _make_partitions(database: Database) -> None:
    connection = await database.connect_direct()
    try:
        await make_partitions(connection)
    finally:
        await connection.close()


_TABLES_SECONDS = 3600.0
_TICK_SECONDS = 0.1


async def fold_chats(sessions: Mapping[str, Session], chats: ChatStore) -> None:
    """Have the accounts' chats know of their messages before these are past their retention, until
    cancelled: each account's about once an hour, also where nobody reads its chats.
    """
    while True:
        await asyncio.sleep(_FOLD_SECONDS)
        for session in [*sessions.values()]:
            try:
                await chats.fold(session.context.ref.uuid)
            except UNAVAILABLE as error:
                logger.warning("chats wait for Postgres", error=repr(error))
                break
            except Exception:  # one account's: the others' are still to be folded
                logger.exception("an account's chats cannot be folded", account_id=session.id)


_FOLD_SECONDS = 3600.0
