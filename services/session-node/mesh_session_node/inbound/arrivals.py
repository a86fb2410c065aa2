"""A message that the network brought, on its way to being stored and then acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import structlog
from asyncpg import Record

from mesh_core.errors import Unavailable
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.driver_rows import ArrivedRows
from mesh_session_node.context.message_rows import ref_of_row
from mesh_session_node.drivers.interface.content import Incoming, Reference, is_one_of
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
    changes: ArrivedRows | None = None
    """Changes of the driver's rows that are stored with it, whatever of it is stored."""

    def store(
        self, *rows: Row, then: Callable[[Outcome], None], repeated: Callable[[Duplicate], None] | None = None
    ) -> asyncio.Future[Outcome]:
        """Write the rows, and the changes that came with the message; when they are stored, or were before,
        acknowledge the message and call `then`. `repeated` is called instead for what was stored before.
        Raises `Unavailable` as `Journal.write` does.
        """
        session, changes = self.session, self.changes
        brought = () if changes is None else changes.take()
        try:
            done = session.host.journal.write(session.ref, *rows, *brought, *session.people.news)
        except Unavailable:
            if brought and changes is not None:
                changes.keep()
            raise
        session.people.stored()
        done.add_done_callback(partial(self._settled, then, repeated))
        return done

    def acknowledge(self) -> None:
        """The message is safe with us, or needs no storing: tell the network, once the changes that came with
        it are stored, over the connection that brought it, if that still stands. Raises `Unavailable` as
        `store` does.
        """
        if self.changes is not None and not self.changes.handed_over:
            self.store(then=_nothing)
            return
        present = self.session.bringing
        if present is not None and self.link in (present, None):
            came = self.message
            present.acknowledge(came.network_id if came.offered_as is None else came.offered_as)

    @property
    def refers_to(self) -> set[str]:
        """The network's ids of the earlier messages that it refers to."""
        came = self.message
        ids = {about.network_id for about in (came.target, came.reply_to) if about is not None}
        return ids | {came.album} if came.album else ids

    def ref(self, reference: Reference, rows: Mapping[str, Record]) -> MessageRef:
        """What names an earlier message: its row says it where it is stored, else the network did."""
        if (row := rows.get(reference.network_id)) is not None:
            return ref_of_row(row)
        ref = MessageRef(network_message_id=reference.network_id, chat=reference.chat or self.message.chat)
        if is_one_of(self.session.own, reference.sender):
            ref.from_account = True
        else:
            ref.sender = reference.sender
        return ref

    def _settled(
        self,
        then: Callable[[Outcome], None],
        repeated: Callable[[Duplicate], None] | None,
        done: asyncio.Future[Outcome],
    ) -> None:
        changes = self.changes
        if done.cancelled() or done.exception() is not None:
            if changes is not None:
                changes.settle(stored=False)
            return
        outcome = done.result()
        if changes is not None:
            if isinstance(outcome, Poison):
                changes.keep()
            else:
                changes.settle(stored=isinstance(outcome, Committed | Duplicate))
        if isinstance(outcome, Poison):
            logger.error(
                "the database refuses an inbound message",
                account_id=self.session.id,
                network_id=self.message.network_id,
                error=str(outcome.error),
            )
            if self.instead is not None and not self.session.closed:
                self.instead()
            if changes is not None and not changes.handed_over:
                changes.settle(stored=False)
        if self.session.closed:
            return
        if isinstance(outcome, Duplicate) and repeated is not None:
            repeated(outcome)
        elif isinstance(outcome, Committed | Duplicate):
            self.acknowledge()
            then(outcome)


def told_by_account(session: SessionContext, came: Incoming) -> Incoming:
    """What the account itself wrote is `from_account`, also where the network does not say so: a message to
    its own number, or of its phone in a group. Taken for somebody else's it would be answered, for ever.
    """
    if came.from_account or not is_one_of(session.own, came.sender, came.identity):
        return came
    # It says who the sender is, and so who the recipient is only in the account's chat with itself
    identity = came.identity if is_one_of(session.own, came.chat) else None
    return replace(came, from_account=True, identity=identity)


def turn_of(session: SessionContext, came: Incoming) -> str:
    """What comes in one order: a chat's messages, or all of an account whose driver keeps rows, which change
    from one message to the next.
    """
    state = session.driver_state
    return came.chat if state is None or state.ratchet is not None else ""


def _nothing(_outcome: object) -> None:
    pass
