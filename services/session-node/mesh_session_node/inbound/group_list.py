"""The groups of an account, asked for once after it was paired: from then on the network tells what changes.

What fails is tried again after the next login. Few accounts ask at a time, and each with pauses, so that a
mesh that is paired with thousands of accounts does not look like one that reads them out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import cast

import structlog

from mesh_core.database import UNAVAILABLE
from mesh_core.database.requests import RecordKind
from mesh_core.errors import MeshError
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.places import Places
from mesh_session_node.drivers.interface.capabilities import Acting, Capability
from mesh_session_node.drivers.interface.groups import GroupInfo
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, Refused
from mesh_session_node.inbound.fitting_groups import fit_group
from mesh_session_node.inbound.group_records import KINDS
from mesh_session_node.inbound.groups import GroupBook
from mesh_session_node.journal import AccountRecord, Committed, Row
from sessionmesh.internal.v1.group_record_pb2 import GroupRecord

logger = structlog.get_logger(__name__)

LISTED = "listed"
"""The key of the record that says so."""
MAX_GROUPS = 10_000
"""Of one account."""
AT_ONCE = 8
"""Accounts of a node whose groups are being asked for."""
PAUSE_SECONDS = 0.25
"""Between two questions of one account."""


class GroupList:
    """One for all accounts."""

    def __init__(self, book: GroupBook) -> None:
        self._book = book
        self._places = Places(AT_ONCE, 1)

    def connected(self, session: SessionContext) -> None:
        """The session has connected: ask for its groups, unless that was done since it was paired."""
        if not session.groups_listed and Capability.GROUPS in session.driver.capabilities:
            session.host.spawn(f"list groups of {session.id}", self._run(session))

    async def _run(self, session: SessionContext) -> None:
        try:
            async with self._places.place(session.ref):
                if session.groups_listed or session.closed or session.link is None:
                    return
                done = await self._book.records.one(session.ref.uuid, RecordKind.GROUPS_LISTED, LISTED)
                if done is None:
                    await self._list(session)
                session.groups_listed = True
        except _FAILED as error:
            logger.info("groups are not listed yet", account_id=session.id, problem=repr(error))

    async def _list(self, session: SessionContext) -> None:
        before = await self._stored(session)
        groups = (await _link(session).list_groups())[:MAX_GROUPS]
        for group in groups:
            address = fit_group(group).address
            if group.members is None:
                await asyncio.sleep(PAUSE_SECONDS)
            async with self._book.turn(session, address):
                news = await self._is_news(session, address, before)
                whole = await _whole(session, address) if news or group.members is None else group
                if whole is None and news:
                    continue  # what is stored is later than the list
                told = await self._book.told(session, whole or group, event=False)
                await _write(session, told.rows)
        there = {fit_group(group).address for group in groups}
        for address in before.keys() - there:
            await self._forget(session, address, before)
        now = time.time_ns() // 1000
        await _write(session, [AccountRecord(RecordKind.GROUPS_LISTED, LISTED, "", b"", now)])

    async def _stored(self, session: SessionContext) -> dict[str, bytes]:
        """What is stored of the groups and communities that the account is in, by address."""
        found = dict[str, bytes]()
        for kind in (RecordKind.GROUP, RecordKind.COMMUNITY):
            for stored in await self._book.records.page(session.ref.uuid, kind, "", MAX_GROUPS):
                found[stored.key] = stored.value
        return found

    async def _is_news(self, session: SessionContext, address: str, before: Mapping[str, bytes]) -> bool:
        """Whether more was stored of a group than before the list was asked for, which is older then."""
        now = await self._book.records.of_any_kind(session.ref.uuid, KINDS, address)
        return now is not None and now != before.get(address)

    async def _forget(self, session: SessionContext, group: str, before: Mapping[str, bytes]) -> None:
        """The account is not in this group any more, unless it has come back since."""
        async with self._book.turn(session, group):
            if await self._is_news(session, group, before):
                return
            record: GroupRecord | None = await self._book.record(session, group)
            if record is not None and record.group.own_role:
                await _write(session, (await self._book.lost(session, record)).rows)


async def _whole(session: SessionContext, address: str) -> GroupInfo | None:
    """A group with its members; None when it was left, or is gone, which the network tells, or has told."""
    try:
        return await _link(session).get_group(address)
    except Refused:
        return None


def _link(session: SessionContext) -> Acting:
    if session.link is None:
        raise TimeoutError("the connection has ended")
    return cast(Acting, session.link)


async def _write(session: SessionContext, rows: Sequence[Row]) -> None:
    if not rows or session.closed:
        return
    outcome = await session.host.journal.write(session.ref, *rows)
    if not isinstance(outcome, Committed):
        raise TimeoutError(f"not stored: {outcome!r}")


_FAILED: tuple[type[Exception], ...] = (
    ConnectionEnded,
    MeshError,
    Refused,
    TimeoutError,
    *UNAVAILABLE,
)
