"""Receipts beside the hot path: those of messages that no session remembers, and telling the network what is
stored.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from mesh_core.errors import MeshError
from mesh_session_node.drivers.interface.outcomes import Receipt
from mesh_session_node.journal import Journal
from mesh_session_node.queries import UNAVAILABLE, Queries
from mesh_session_node.session.outgoing import Outgoing, message_of
from sessionmesh.v1 import message_pb2

if TYPE_CHECKING:
    from asyncpg.pgproto.pgproto import UUID

    from mesh_session_node.session.session import Session

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Late:
    message: UUID
    receipt: Receipt
    time: int
    member: str


class LateReceipts:
    """Looks the messages up, many at a time."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._waiting: dict[Session, list[_Late]] = defaultdict(list)
        self._wake = asyncio.Event()

    def add(self, session: Session, network_id: str, receipt: Receipt, time: int, member: str) -> None:
        """A receipt for one of our messages; others' are ignored."""
        message = message_of(network_id)
        if message is not None:
            self._waiting[session].append(_Late(message, receipt, time, member))
            self._wake.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            waiting, self._waiting = self._waiting, defaultdict(list)
            for session, receipts in waiting.items():
                try:
                    await self._resolve(session, receipts)
                except UNAVAILABLE as error:
                    logger.warning("late receipts wait for Postgres", error=repr(error))
                    self._waiting[session] += receipts
                    self._wake.set()
                    await asyncio.sleep(_AGAIN)
            await asyncio.sleep(_GATHER)

    async def _resolve(self, session: Session, receipts: list[_Late]) -> None:
        rows = await self._queries.messages(session.ref.uuid, {late.message for late in receipts})
        found = {}
        for row in rows:
            request = message_pb2.SendMessageRequest.FromString(row["content"])
            found[row["id"]] = Outgoing(session, row["id"], row["chat"], request, row["traceparent"])
        for late in receipts:
            if session.closed:
                return
            if (out := found.get(late.message)) is not None:
                session.sender.receipted(out, late.receipt, late.time, late.member)


class ReceiptAcks:
    """Once a second the journal is flushed, and the receipts that are stored then are acknowledged, one frame
    a session.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._upto: dict[Session, int] = {}
        self._wake = asyncio.Event()

    def heard(self, session: Session, sequence: int) -> None:
        """A receipt that has been posted to the journal."""
        self._upto[session] = sequence
        self._wake.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(_ACK_EVERY)
            self._wake.clear()
            upto, self._upto = self._upto, {}
            try:
                await self._journal.flush()
            except MeshError:  # the journal has stopped: the network offers the receipts again
                continue
            for session, sequence in upto.items():
                if session.link is not None:
                    session.link.acknowledge_receipts(sequence)


_GATHER = 0.1
_AGAIN = 1.0
_ACK_EVERY = 1.0
