"""What the sessions of a node have in common."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from asyncpg.pgproto.pgproto import UUID

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from mesh_session_node.drivers.interface.content import Incoming
    from mesh_session_node.drivers.interface.driver import Driver
    from mesh_session_node.drivers.interface.outcomes import Receipt
    from mesh_session_node.journal import Journal
    from mesh_session_node.session.outgoing import Outgoing
    from mesh_session_node.session.session import Session
    from mesh_session_node.settings import SessionSettings


class Host(Protocol):
    """The node, as its sessions see it. What a session waits for, the node does: sessions start no task
    themselves.
    """

    loop: AbstractEventLoop
    journal: Journal
    node_id: str
    settings: SessionSettings

    def may_act(self, session: Session) -> bool:
        """Whether the account may run here at this very moment."""

    def driver(self, name: str) -> Driver: ...

    def seal(self, tenant: UUID, plain: bytes, context: bytes) -> bytes:
        """Encrypt with the tenant's data key, which is loaded."""

    def spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run something that takes time for a session; a failure of it is logged, and is not the node's."""

    def admit(self, session: Session) -> None:
        """Let the session dial when its turn comes."""

    def prepare(self, session: Session, out: Outgoing) -> Coroutine[Any, Any, PreparedPayload]:
        """Look up and hand over what a message needs before it can be sent."""

    def receive_reference(self, session: Session, came: Incoming) -> Coroutine[Any, Any, None]:
        """Store a message that refers to an earlier one, which must be looked up."""

    def late_receipt(
        self, session: Session, network_id: str, receipt: Receipt, time: int, member: str
    ) -> None:
        """A receipt for a message that the session no longer remembers."""

    def receipts_heard(self, session: Session, sequence: int) -> None:
        """Acknowledge receipts up to this one once they are stored."""

    def fetch_media(self, session: Session, message: UUID, blob: bytes) -> None:
        """A message came whose media must be fetched."""


class PreparedPayload(Protocol):
    """A message in the driver's form."""

    @property
    def payload(self) -> bytes: ...
    @property
    def blobs(self) -> Sequence[str]: ...
