"""The driver's state that sending uses up: it is stored before what it allows may happen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from mesh_core.errors import Unavailable
from mesh_session_node.context.context import SessionContext
from mesh_session_node.drivers.interface.state import Ratchet, Reservation
from mesh_session_node.journal import Committed, Credential, Duplicate, Mismatch, Outcome


class Reservations:
    """Tells one account's ratchet what became of its reservations, and stores more of it on demand."""

    __slots__ = ("_context", "_pending")

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self._pending = False

    def settled(self, reservation: Reservation, done: asyncio.Future[Outcome]) -> None:
        """What was written with the reservation has an outcome: confirm it, or drop it."""
        ratchet = self._ratchet
        if ratchet is None:
            return
        # A repeated request stores no message, but the state that came with it
        if isinstance(outcome_of(done), Committed | Duplicate | Mismatch):
            ratchet.confirm(reservation)
        else:
            ratchet.drop(reservation)

    def request(self, messages: int, when_stored: Callable[[], None]) -> None:
        """Everything stored of the state is used up: store enough for `messages` more, then call."""
        context, ratchet = self._context, self._ratchet
        if self._pending or ratchet is None:
            return
        self._pending = True
        reservation = ratchet.reserve(messages)
        try:
            done = context.host.journal.write(context.ref, Credential(context.seal(reservation.state)))
        except Unavailable:  # too much waits for the database: the next keepalive asks again
            self._pending = False
            ratchet.drop(reservation)
            return
        done.add_done_callback(partial(self._requested, reservation, when_stored))

    @property
    def _ratchet(self) -> Ratchet | None:
        state = self._context.driver_state
        return None if state is None else state.ratchet

    def _requested(
        self, reservation: Reservation, when_stored: Callable[[], None], done: asyncio.Future[Outcome]
    ) -> None:
        self._pending = False
        self.settled(reservation, done)
        if isinstance(outcome_of(done), Committed):
            when_stored()


def outcome_of(done: asyncio.Future[Outcome]) -> Outcome | None:
    """What the journal says; None when it is unknown."""
    if done.cancelled() or done.exception() is not None:
        return None
    return done.result()
