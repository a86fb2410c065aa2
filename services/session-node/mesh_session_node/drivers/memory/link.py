"""A connection to the network in memory: it keeps what it is handed, and the test answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, MutableMapping, Sequence
from hashlib import sha256

from mesh_session_node.drivers.interface.content import Blob, Identity, Incoming, OutgoingMessage
from mesh_session_node.drivers.interface.device import Proxy
from mesh_session_node.drivers.interface.driver import LinkEvents
from mesh_session_node.drivers.interface.notices import Notice
from mesh_session_node.drivers.interface.outcomes import (
    BlobUnavailable,
    ConnectionEnded,
    End,
    Failure,
    MemberReceipts,
    Receipt,
)
from mesh_session_node.drivers.memory.actions import MemoryActions
from mesh_session_node.drivers.memory.channel_actions import MemoryChannel
from mesh_session_node.drivers.memory.state import MemoryState
from sessionmesh.v1 import session_pb2


class MemoryLink(MemoryActions):
    """Implements `Link`. What the session did is in the attributes; `ack`, `reject`, `receipt`, `receive`,
    `notify`, `restrict` and `end` are what the network does. They call the session at once, before they
    return, and do nothing once the connection has ended.
    """

    def __init__(
        self,
        state: MemoryState,
        events: LinkEvents,
        blobs: MutableMapping[str, bytes],
        users: Mapping[str, str],
        channels: dict[str, MemoryChannel],
    ) -> None:
        super().__init__(users, channels)
        self.state = state
        self.heard = asyncio.get_running_loop().time()
        self.sent: list[OutgoingMessage] = []
        """What was handed over, in order; a message that was sent again is there again."""
        self.positions: list[int] = []
        """The ratchet position of each message of `sent`."""
        self.acknowledged: list[str] = []
        """The network ids of the incoming messages that the session has stored."""
        self.receipts_stored = 0
        """The session has stored every receipt up to this sequence number."""
        self.notices_stored: list[int] = []
        """The sequence numbers of notices that the session has stored."""
        self.pings = 0
        self.logging_out = False
        self.aborted = False
        self.proxy: Proxy | None = None
        """What it was connected through."""
        self.max_file_bytes = 100 * 1024 * 1024
        """Larger files are refused."""
        self._events: LinkEvents | None = events
        self._blobs = blobs
        self._login: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unanswered: list[str] = []
        self._closed = asyncio.Event()
        self._closed.set()

    # --- what the network does

    def log_in(self) -> None:
        """Let the login succeed that `MemoryDriver.hold_logins` keeps waiting."""
        if not self._login.done():
            self._login.set_result(None)

    def ack(self, network_id: str, at: int | None = None, recipient: Identity | None = None) -> None:
        """Acknowledge a message, at microseconds since the epoch; now when `at` is None."""
        self._answer(network_id)
        if self._events is not None:
            self._events.on_ack(network_id, _time(at), recipient)

    def reject(
        self,
        network_id: str,
        failure: Failure,
        detail: str = "",
        retry_after: float = 0.0,
        code: int | None = None,
    ) -> None:
        """Refuse a message."""
        self._answer(network_id)
        if self._events is not None:
            self._events.on_reject(network_id, failure, detail, retry_after, code)

    def receipt(
        self,
        network_id: str,
        receipt: Receipt = Receipt.DELIVERED,
        *,
        at: int | None = None,
        member: str = "",
        sequence: int = 0,
        identity: Identity | None = None,
    ) -> None:
        """Tell what became of a message."""
        if member:
            self.receipts([member], network_id, receipt, at=at, sequence=sequence, identity=identity)
        elif self._events is not None:
            self._events.on_receipt(network_id, receipt, _time(at), sequence)

    def receipts(
        self,
        members: Sequence[str],
        network_id: str,
        receipt: Receipt = Receipt.DELIVERED,
        *,
        at: int | None = None,
        sequence: int = 0,
        identity: Identity | None = None,
    ) -> None:
        """Tell what became of a message at these members of its group; `identity` is the first one's."""
        if self._events is not None:
            known = {} if identity is None else {members[0]: identity}
            told = MemberReceipts(network_id, receipt, members, [_time(at)] * len(members), known)
            self._events.on_member_receipts(told, sequence)

    def receive(self, message: Incoming) -> None:
        """Bring a message."""
        if self._events is not None:
            self._events.on_incoming(message)

    def notify(self, notice: Notice, sequence: int = 0) -> None:
        """Tell something that is no message."""
        if self._events is not None:
            self._events.on_notice(notice, sequence)

    def restrict(self, *restrictions: session_pb2.Restriction) -> None:
        """Say what the account may not do, in place of what was said before."""
        if self._events is not None:
            self._events.on_restrictions(restrictions)

    def end(self, end: End = End.LOST, detail: str = "", retry_after: float = 0.0) -> None:
        """End the connection; one that is not logged in yet is refused so."""
        if self.ended is not None:
            return
        self.ended = ConnectionEnded(end, detail, retry_after)
        events, self._events = self._events, None
        if not self._login.done():
            self._login.set_exception(self.ended)
        elif events is not None:
            events.on_end(self, end, detail)

    def answer(self) -> None:
        """Do what a healthy network does: acknowledge all that was handed over, and end a pairing that was
        logged out.
        """
        for network_id in [*self._unanswered]:
            self.ack(network_id)
        if self.logging_out:
            self.end(End.LOGGED_OUT)

    def hold_close(self) -> None:
        """Something of the connection may leave until `let_close`, also after `abort`."""
        self._closed.clear()

    def let_close(self) -> None:
        """Nothing of it leaves any more."""
        self._closed.set()

    async def logged_in(self) -> None:
        """Wait for the outcome of the login. Raises `ConnectionEnded`."""
        try:
            await self._login
        except asyncio.CancelledError:
            self.abort()
            raise

    # --- Link

    def send(self, message: OutgoingMessage) -> None:
        if self.ended is not None:
            return
        self.positions.append(self.state.use())
        self.handed_over(message)

    def acknowledge(self, network_id: str) -> None:
        self.acknowledged.append(network_id)

    def acknowledge_receipts(self, sequence: int) -> None:
        self.receipts_stored = sequence

    def acknowledge_notice(self, sequence: int) -> None:
        self.notices_stored.append(sequence)

    def ping(self) -> None:
        self.pings += 1

    def log_out(self) -> None:
        self.logging_out = True

    def abort(self) -> None:
        self.aborted = True
        self._events = None
        self.ended = self.ended or ConnectionEnded(End.LOST, "closed")

    async def closed(self) -> None:
        await self._closed.wait()

    async def upload(self, _kind: str, pieces: AsyncIterator[bytes], *, public: bool = False) -> Blob:
        data = b"".join([piece async for piece in pieces])
        if self.ended is not None:
            raise self.ended
        if len(data) > self.max_file_bytes:
            raise BlobUnavailable("too large for the network", too_large=True)
        digest = sha256(data)
        self._blobs[digest.hexdigest()] = data
        return Blob(digest.hexdigest(), digest.digest(), len(data))

    async def fetch(self, blob: bytes) -> AsyncIterator[bytes]:
        if self.ended is not None:
            raise self.ended
        data = self._blobs.get(blob.decode())
        if data is None:
            raise BlobUnavailable("no such file")
        yield data

    def handed_over(self, message: OutgoingMessage) -> None:
        """The network has the message, and has not answered yet."""
        self.sent.append(message)
        self.posted(message)
        self._unanswered.append(message.network_id)

    def _answer(self, network_id: str) -> None:
        if network_id in self._unanswered:
            self._unanswered.remove(network_id)


def _time(at: int | None) -> int:
    return time.time_ns() // 1000 if at is None else at
