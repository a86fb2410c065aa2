"""A message that the network brought, on its way to being stored and then acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog
from asyncpg import Record

from mesh_core.errors import MeshError
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.message_rows import ref_of_row
from mesh_session_node.drivers.interface.content import Identity, Incoming, Reference
from mesh_session_node.drivers.interface.driver import Link
from mesh_session_node.journal import Committed, Duplicate, Outcome, Poison, Row
from sessionmesh.v1.common_pb2 import MessageRef

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Arrival:
    """What came, and the connection that brought it."""

    session: SessionContext
    link: Link | None
    message: Incoming
    instead: Callable[[], None] | None = None
    """Stores what stands for the message when the database refuses it; None: nothing can."""

    def store(self, *rows: Row, then: Callable[[Outcome], None]) -> asyncio.Future[Outcome] | None:
        """Write the rows; when they are stored, or were before, acknowledge the message and call `then`. None
        when they cannot be written now.
        """
        session = self.session
        try:
            done = session.host.journal.write(session.ref, *rows)
        except MeshError as error:
            logger.warning("inbound message not stored", account_id=session.id, reason=error.message)
            return None
        done.add_done_callback(partial(self._settled, then))
        return done

    def acknowledge(self) -> None:
        """The message is safe with us; over the connection that brought it, if that still stands."""
        present = self.session.link
        if present is not None and self.link in (present, None):
            came = self.message
            present.acknowledge(came.network_id if came.offered_as is None else came.offered_as)

    def ref(self, reference: Reference, row: Record | None) -> MessageRef:
        """What names an earlier message: its row says it where it is stored, else the network did."""
        if row is not None:
            return ref_of_row(row)
        came = self.message
        ref = MessageRef(network_message_id=reference.network_id, chat=reference.chat or came.chat)
        sender = reference.sender or came.sender
        own = self.own
        if sender in (f"phone:{own.phone}", f"user:{own.user_id}", f"hidden:{own.hidden_id}"):
            ref.from_account = True
        else:
            ref.sender = sender
        return ref

    @property
    def own(self) -> Identity:
        """Who the account itself is."""
        state = self.session.driver_state
        return Identity() if state is None else Identity(state.phone, state.user_id, state.hidden_id)

    def _settled(self, then: Callable[[Outcome], None], done: asyncio.Future[Outcome]) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        outcome = done.result()
        if isinstance(outcome, Poison):
            logger.error(
                "the database refuses an inbound message",
                account_id=self.session.id,
                network_id=self.message.network_id,
                error=str(outcome.error),
            )
            if self.instead is not None and not self.session.closed:
                self.instead()
        if not self.session.closed and isinstance(outcome, Committed | Duplicate):
            self.acknowledge()
            then(outcome)
