"""How messages come into one account's outbox: checked for room, and stored before anything is sent."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Protocol

from mesh_core.database.requests import payload_digest
from mesh_core.errors import FailedPrecondition, ResourceExhausted, Unavailable
from mesh_core.ids import new_uuid
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.media_uses import outgoing_media_use
from mesh_session_node.journal import Committed, Outcome
from mesh_session_node.outbound.limits import Limiter
from mesh_session_node.outbound.outgoing import AcceptedRow, Committable, Outgoing, labels_of
from mesh_session_node.outbound.reservations import Reservations, outcome_of
from mesh_session_node.outbound.room import AccountRoom
from mesh_session_node.outbound.statuses import status_event
from sessionmesh.v1 import message_pb2 as pb


class Queue(Committable, Protocol):
    """Where messages go once they are stored."""

    @property
    def queued(self) -> int: ...


class Acceptance:
    """Messages of one account on their way into the journal; after the commit they are the queue's."""

    __slots__ = ("_context", "_limiter", "_queue", "_reservations", "_room", "waiting")

    def __init__(
        self,
        context: SessionContext,
        queue: Queue,
        limiter: Limiter,
        room: AccountRoom,
        reservations: Reservations,
    ) -> None:
        self._context = context
        self._queue = queue
        self._limiter = limiter
        self._room = room
        self._reservations = reservations
        self.waiting = 0
        """Messages that wait for their commit."""

    def check_room(self, size: int) -> None:
        """Raise `ResourceExhausted` OUTBOX_FULL when a message of `size` bytes has no place in the outbox."""
        full = self._room.lacks(size)
        if self._queue.queued + self.waiting >= self._limiter.limits.outbox:
            full = "the account's outbox is full", "outbox"
        if full is not None:
            wait = max(1.0, self._limiter.wait(time.monotonic()))
            raise ResourceExhausted(full[0], "OUTBOX_FULL", quota=full[1], retry_after=wait)

    def accept(
        self, out: Outgoing, method: int, request_id: str, digest: bytes, content: bytes, now: float
    ) -> asyncio.Future[Outcome]:
        """Put the message into the open batch. The driver's state that it needs rides along, so that sending
        it never waits for a commit of its own. `now` is seconds since the epoch.

        Raises `FailedPrecondition` NOT_PAIRED, and `Unavailable` as `Journal.accept` does.
        """
        context = self._context
        state = context.driver_state
        if state is None:
            raise FailedPrecondition("the account is not paired", "NOT_PAIRED")
        ratchet = state.ratchet
        reservation = out.reservation = None if ratchet is None else ratchet.plan()
        due = None if out.due is None else int(out.due * 1e6)
        row = AcceptedRow(
            id=out.uuid,
            request_id=request_id,
            digest=digest,
            chat=out.chat,
            content=content,
            event=status_event(context, out, pb.MESSAGE_STATUS_QUEUED, int(now * 1e6)),
            method=method,
            network_id=out.network_id,
            traceparent=out.traceparent,
            priority=out.order,
            due_at=due,
            external_id=out.request.external_id,
            labels=labels_of(out.request),
            media=outgoing_media_use(out.uuid, out.request.content, out.chat, due),
            state=None if reservation is None else context.seal(reservation.state),
            out=out,
            sender=self._queue,
        )
        try:
            done = context.host.journal.accept(context.ref, row)
        except Unavailable:
            if ratchet is not None and reservation is not None:
                ratchet.drop(reservation)
            raise
        self.waiting += 1
        self._room.take(out)
        done.add_done_callback(partial(self._settled, out))
        if reservation is not None:
            done.add_done_callback(partial(self._reservations.settled, reservation))
        return done

    def say(self, request: pb.SendMessageRequest, method: int, request_id: str) -> asyncio.Future[Outcome]:
        """Accept a message that the mesh itself writes, once under this request id. Raises
        `ResourceExhausted` and as `accept`.
        """
        payload = request.SerializeToString(deterministic=True)
        self.check_room(len(payload))
        uuid = new_uuid()
        out = Outgoing(uuid, self._context.driver.network_id(uuid), request.recipient, request, "")
        out.size = len(payload)
        return self.accept(out, method, request_id, payload_digest(payload), payload, time.time())

    def _settled(self, out: Outgoing, done: asyncio.Future[Outcome]) -> None:
        self.waiting -= 1
        # Where its caller has given up it may be stored all the same, and takes its room again then
        if not isinstance(outcome_of(done), Committed):
            out.leave_room()
