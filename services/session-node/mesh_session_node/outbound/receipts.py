"""Receipts beside the hot path: those of messages that are no longer in memory, and their acknowledgement."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import UNAVAILABLE
from mesh_core.errors import MeshError
from mesh_core.signal import Signal
from mesh_session_node.context.context import SessionContext
from mesh_session_node.drivers.interface.driver import Link
from mesh_session_node.drivers.interface.outcomes import MemberReceipts, Receipt
from mesh_session_node.journal import Journal
from mesh_session_node.outbound.member_receipts import Gathering
from mesh_session_node.outbound.outgoing import Outgoing
from mesh_session_node.store.messages import MessageStore
from sessionmesh.v1 import message_pb2

logger = structlog.get_logger(__name__)


class ReceiptTarget(Protocol):
    """The account whose messages the receipts are for."""

    @property
    def context(self) -> SessionContext: ...

    def receipted(self, out: Outgoing, receipt: Receipt, micros: int, *, late: bool = False) -> None:
        """Store a receipt of this message; a `late` one may have been stored before."""

    def receipted_by(
        self, out: Outgoing, told: MemberReceipts, stored: Sequence[tuple[int, Sequence[str]]]
    ) -> None:
        """Store receipts of members; `stored` says who of them is known to have which status."""


@dataclass(frozen=True, slots=True)
class _Late:
    number: int
    message: UUID
    receipt: Receipt
    micros: int
    told: MemberReceipts | None


class LateReceipts:
    """Looks the messages of late receipts up, many at a time."""

    def __init__(self, messages: MessageStore) -> None:
        self._messages = messages
        self._waiting: dict[ReceiptTarget, list[_Late]] = defaultdict(list)
        self._resolving: dict[ReceiptTarget, list[_Late]] = {}
        self._added = 0
        self._resolved = Signal()
        self._wake = asyncio.Event()

    def add(
        self,
        target: ReceiptTarget,
        network_id: str,
        receipt: Receipt,
        micros: int,
        told: MemberReceipts | None = None,
    ) -> None:
        """A receipt, at microseconds since the epoch, or what is `told` of members; one for a message that is
        not ours is ignored.
        """
        message = target.context.driver.message_of(network_id)
        if message is not None:
            self._added += 1
            self._waiting[target].append(_Late(self._added, message, receipt, micros, told))
            self._wake.set()

    async def posted(self) -> None:
        """Return when every receipt that came until now is posted to the journal, or found to be nobody's."""
        last = self._added
        await self._resolved.wait_until(lambda: self._oldest() > last)

    async def run(self) -> None:
        """Look up what comes, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self._resolving, self._waiting = self._waiting, defaultdict(list)
            for target, receipts in [*self._resolving.items()]:
                try:
                    while receipts:
                        await self._resolve(target, receipts[:_AT_ONCE])
                        del receipts[:_AT_ONCE]
                except UNAVAILABLE as error:
                    logger.warning("late receipts wait for Postgres", error=repr(error))
                    self._waiting[target] = receipts + self._waiting[target]
                    self._wake.set()
                    await asyncio.sleep(_RETRY_DELAY)
                except Exception:  # one account's: the others' are still to be looked up
                    logger.exception("late receipts are lost", account_id=target.context.id)
                del self._resolving[target]
                self._resolved.notify()
            await asyncio.sleep(_BATCH_SECONDS)

    def _oldest(self) -> int:
        """The number of the first receipt that is not posted yet, or of the next one to come."""
        lists = [*self._resolving.values(), *self._waiting.values()]
        return min((receipts[0].number for receipts in lists if receipts), default=self._added + 1)

    async def _resolve(self, target: ReceiptTarget, receipts: list[_Late]) -> None:
        context = target.context
        rows = await self._messages.messages(context.ref.uuid, {late.message for late in receipts})
        stored, found = {row["id"]: row for row in rows}, dict[UUID, Outgoing]()
        of_members = {late.message for late in receipts if late.told is not None and late.message in stored}
        heard = await self._messages.receipts.heard(of_members) if of_members else {}
        for late in receipts:
            if context.closed:
                return
            if (row := stored.get(late.message)) is None:
                continue
            try:
                if (out := found.get(late.message)) is None:
                    request = message_pb2.SendMessageRequest.FromString(row["content"])
                    out = Outgoing(row["id"], row["network_id"], row["chat"], request, row["traceparent"])
                    found[late.message] = out
                if late.told is None:
                    target.receipted(out, late.receipt, late.micros, late=True)
                else:
                    target.receipted_by(out, late.told, heard.get(late.message, ()))
            except Exception:  # one receipt's: the others are told
                logger.exception("a receipt is lost", account_id=context.id, message=str(late.message))


class ReceiptAcks:
    """Tells the network once a second which receipts are stored, one frame a session; `late` are those that
    are looked up first.
    """

    def __init__(self, journal: Journal, late: LateReceipts) -> None:
        self._journal = journal
        self._late = late
        self.gathering = Gathering()
        """What receipts of groups' members pass before they are posted."""
        self._upto: dict[SessionContext, tuple[Link | None, int]] = {}
        self._wake = asyncio.Event()

    def posted(self, context: SessionContext, sequence: int) -> None:
        """The receipts up to this one have been posted to the journal, or are late ones."""
        self._upto[context] = context.bringing, sequence
        self._wake.set()

    async def run(self) -> None:
        """Acknowledge what came once it is posted and the journal is flushed, until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(_ACK_SECONDS)
            self._wake.clear()
            upto, self._upto = self._upto, {}
            await self._late.posted()
            await self.gathering.post_all()
            try:
                await self._journal.flush()
            except MeshError:  # the journal has stopped: the network offers the receipts again
                continue
            for context, (link, sequence) in upto.items():
                try:
                    present = context.bringing
                    if present is not None and link in (present, None):  # else they are offered again
                        present.acknowledge_receipts(sequence)
                except Exception:  # they are offered again
                    logger.exception("receipts were not acknowledged", account_id=context.id)


_BATCH_SECONDS = 0.1
_AT_ONCE = 500  # receipts of one account in a query, and between two turns of the loop
_RETRY_DELAY = 1.0
_ACK_SECONDS = 1.0
