"""Between a network and a session: what a link tells passes here, is made fit, and fails for itself alone.

A link calls in the callback that read from its connection. What it tells is a stranger's doing, or the
network's; an exception there would end the connection, and the same frame would end the next one. So nothing
is raised from here: what a session cannot take is logged and counted, and a message is stored as a
placeholder, so that the network does not offer it for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from mesh_core.metrics import counters
from mesh_session_node.drivers.interface.content import Identity, Incoming, OutgoingMessage
from mesh_session_node.drivers.interface.driver import Link, LinkEvents
from mesh_session_node.drivers.interface.notices import Notice, UnknownNotice
from mesh_session_node.drivers.interface.outcomes import (
    MAX_DETAIL,
    End,
    Failure,
    MemberReceipts,
    Receipt,
    bounded_seconds,
)
from mesh_session_node.inbound.bounds import MAX_ENTRIES, fit, fit_id, fit_text, fit_time
from mesh_session_node.inbound.fitting import fit_identity, fit_incoming, placeholder
from mesh_session_node.inbound.fitting_notices import fit_notice
from mesh_session_node.inbound.fitting_receipts import fit_member_receipts
from sessionmesh.v1 import session_pb2

logger = structlog.get_logger(__name__)

FAILED = counters(
    "mesh_foreign_failures_total",
    "Things from the network that the session could not take.",
    answers="Does the network send what we cannot read?",
    what=(
        *("ack", "reject", "receipt", "receipts of members", "message", "placeholder"),
        *("notice", "unknown notice", "restrictions", "end"),
    ),
)


class Border:
    """Implements `LinkEvents`; `events` is the session of this account."""

    __slots__ = ("_account_id", "_events")

    def __init__(self, account_id: str, events: LinkEvents) -> None:
        self._account_id = account_id
        self._events = events

    def permitted(self) -> bool:
        return self._events.permitted()

    async def sent(self, network_id: str) -> OutgoingMessage | None:
        return await self._events.sent(network_id)

    def on_opening(self, link: Link) -> None:
        self._events.on_opening(link)

    def on_ack(self, network_id: str, time: int, recipient: Identity | None = None) -> None:
        self._tell("ack", lambda: self._events.on_ack(network_id, _time(time), fit_identity(recipient)))

    def on_reject(
        self,
        network_id: str,
        failure: Failure,
        detail: str,
        retry_after: float,
        code: int | None = None,
    ) -> None:
        said = code if code is not None and abs(code) < _INT32 else None
        self._tell(
            "reject",
            lambda: self._events.on_reject(
                network_id, failure, fit_text(detail, MAX_DETAIL), bounded_seconds(retry_after), said
            ),
        )

    def on_receipt(self, network_id: str, receipt: Receipt, time: int, sequence: int) -> None:
        self._tell(
            "receipt",
            lambda: self._events.on_receipt(fit_id(network_id), receipt, _time(time), sequence),
        )

    def on_member_receipts(self, told: MemberReceipts, sequence: int) -> None:
        self._tell(
            "receipts of members",
            lambda: self._events.on_member_receipts(fit_member_receipts(told), sequence),
        )

    def on_incoming(self, message: Incoming) -> None:
        if not self._tell("message", lambda: self._events.on_incoming(fit_incoming(message))):
            self._tell("placeholder", lambda: self._events.on_incoming(placeholder(message)))

    def on_notice(self, notice: Notice, sequence: int) -> None:
        if not self._tell("notice", lambda: self._events.on_notice(fit_notice(notice), sequence)):
            unknown = UnknownNotice(type(notice).__name__)
            self._tell("unknown notice", lambda: self._events.on_notice(unknown, sequence))

    def on_restrictions(self, restrictions: Sequence[session_pb2.Restriction]) -> None:
        def tell() -> None:
            told = restrictions[:MAX_ENTRIES]
            for restriction in told:
                fit(restriction)
            self._events.on_restrictions(told)

        self._tell("restrictions", tell)

    def on_end(self, link: Link, end: End, detail: str) -> None:
        self._tell("end", lambda: self._events.on_end(link, end, fit_text(detail, MAX_DETAIL)))

    def _tell(self, what: str, tell: Callable[[], Any]) -> bool:
        try:
            tell()
        except Exception:  # what one stranger sent costs that alone
            FAILED.labels(what).inc()
            logger.exception(
                "the session could not take what the network told", account_id=self._account_id, what=what
            )
            return False
        return True


def _time(micros: int) -> int:
    return fit_time(micros, time.time_ns() // 1000)


_INT32 = 1 << 31
