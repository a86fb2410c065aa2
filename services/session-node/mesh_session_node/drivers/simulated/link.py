"""One connection to the simulated network. All of it is synchronous but the transfers."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from typing import cast

import structlog

from mesh_core.errors import FailedPrecondition
from mesh_core.framing import MAX_FRAME_BYTES, FrameDecoder, encode
from mesh_session_node.drivers.interface.content import STATUS, Blob, OutgoingMessage
from mesh_session_node.drivers.interface.driver import LinkEvents
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End, Failure, MemberReceipts
from mesh_session_node.drivers.simulated.asking import AppStateRead, refused
from mesh_session_node.drivers.simulated.channel_actions import SimulatedChannelActions
from mesh_session_node.drivers.simulated.chat_actions import SimulatedChatActions
from mesh_session_node.drivers.simulated.contact_actions import SimulatedContactActions
from mesh_session_node.drivers.simulated.encoding import from_wire, identity_of, to_audience
from mesh_session_node.drivers.simulated.group_actions import SimulatedGroupActions
from mesh_session_node.drivers.simulated.intake import Intake
from mesh_session_node.drivers.simulated.message_actions import (
    SimulatedMessageActions,
    SimulatedPresenceActions,
)
from mesh_session_node.drivers.simulated.notices import notice_of, presence_of, typing_of
from mesh_session_node.drivers.simulated.outcomes import (
    CLOSINGS,
    FAILURES,
    RECEIPTS,
    REFUSALS,
    restriction_of,
)
from mesh_session_node.drivers.simulated.profile_actions import SimulatedProfileActions
from mesh_session_node.drivers.simulated.state import SimulatedState
from mesh_session_node.drivers.simulated.transfers import Transfers
from sessionmesh.simnet.v1 import wire_pb2 as wire

logger = structlog.get_logger(__name__)

MAX_INCOMING_BYTES = 4 * 1024 * 1024
"""A larger frame is passed over: closing the connection would bring it again after the next login, for ever.
What is too large to be stored is cut by the session, which also acknowledges it.
"""


class SimulatedLink(
    SimulatedMessageActions,
    SimulatedContactActions,
    SimulatedProfileActions,
    SimulatedChatActions,
    SimulatedGroupActions,
    SimulatedPresenceActions,
    SimulatedChannelActions,
    asyncio.Protocol,
):
    """Open, then logged in, then ended. Used by pairing too, which stops before the login."""

    __slots__ = (
        "_decoder",
        "_events",
        "_intake",
        "_loop",
        "_outcome",
        "_state",
        "_transfers",
        "_transport",
        "app_state",
        "ended",
        "heard",
        "pairing",
    )

    def __init__(self, state: SimulatedState | None, events: LinkEvents | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._state = state
        self._events = events
        self._decoder = FrameDecoder(MAX_INCOMING_BYTES, self._skipped)
        self._intake = Intake(self._take)
        self._transport: asyncio.Transport | None = None
        self._transfers: Transfers | None = None
        self._outcome: asyncio.Future[wire.LoginOk] | None = None
        self.app_state = AppStateRead()
        self.pairing: asyncio.Queue[wire.Frame | None] | None = None
        """Frames for whoever pairs; None at the end."""
        self.heard = self._loop.time()
        self.ended: ConnectionEnded | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._intake.begin(self._transport)
        _die_with_the_process(self._transport.get_extra_info("socket"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._intake.end()
        self._end(End.LOST, str(exc) if exc else "the network closed the connection")

    def data_received(self, data: bytes) -> None:
        self.heard = self._loop.time()
        self._intake.add(self._decoder.feed(data))

    def _take(self, body: bytes) -> None:
        try:
            self._heard(wire.Frame.FromString(body))
        except Exception as error:  # the frame's fault: without it the connection is as good as before
            logger.exception("a frame of the network was passed over", problem=repr(error), bytes=len(body))

    def _heard(self, frame: wire.Frame) -> None:
        kind = frame.WhichOneof("kind")
        handle = _HANDLERS.get(kind or "")
        if handle is not None:
            handle(self, frame)
        elif self.pairing is not None and kind in _PAIRING:
            self.pairing.put_nowait(frame)

    def _skipped(self, size: int) -> None:
        user_id = "" if self._state is None else self._state.user_id
        logger.error("a frame of the network is too large and was passed over", user_id=user_id, bytes=size)

    async def log_in(self, timeout: float) -> wire.LoginOk:
        """Log in. Raises `ConnectionEnded`."""
        state = self._state
        if state is None:
            raise RuntimeError("a pairing connection has nothing to log in with")
        self._outcome = self._loop.create_future()
        login = wire.Login(
            user_id=state.user_id, secret=state.stored.secret, counter=state.next, receipt_acks=True
        )
        self.write(wire.Frame(login=login))
        try:
            async with asyncio.timeout(timeout):
                return await self._outcome
        except TimeoutError:
            self.abort()
            raise ConnectionEnded(End.LOST, "the network did not answer the login in time") from None
        except asyncio.CancelledError:
            self.abort()
            raise

    def write(self, frame: wire.Frame) -> None:
        """Send a frame; nothing happens when the connection is gone, whose end has been or will be told."""
        if self._transport is not None:
            self._transport.write(encode(frame.SerializeToString()))

    def send(self, message: OutgoingMessage) -> None:
        state = self._state
        if state is None or self._transport is None:
            return
        send = wire.Send(
            id=message.network_id,
            counter=state.use(),
            to=message.to,
            content=message.payload,
            blob_refs=message.blobs,
        )
        if message.to == STATUS and message.audience is not None:
            send.audience.CopyFrom(to_audience(message.audience))
        frame = wire.Frame(send=send).SerializeToString()
        if len(frame) > MAX_FRAME_BYTES:  # the network would close the connection, each time it is sent
            raise FailedPrecondition("the message is too large for the network", "UNSUPPORTED_BY_NETWORK")
        self._transport.write(encode(frame))

    def acknowledge(self, network_id: str) -> None:
        self.write(wire.Frame(inbound_ack=wire.InboundAck(id=network_id)))
        self._intake.stored()

    def acknowledge_receipts(self, sequence: int) -> None:
        self.write(wire.Frame(receipt_ack=wire.ReceiptAck(sequence=sequence)))

    def acknowledge_notice(self, sequence: int) -> None:
        self.write(wire.Frame(notice_ack=wire.NoticeAck(sequence=sequence)))

    def ping(self) -> None:
        if self._transport is not None:
            self._transport.write(_PING)

    def log_out(self) -> None:
        self.write(wire.Frame(logout=wire.Logout()))

    def abort(self) -> None:
        self._events = None
        if self._transport is not None:
            self._transport.abort()
        self._end(End.LOST, "closed")

    async def closed(self) -> None:
        """At once: an aborted socket sends nothing more."""

    async def upload(self, _kind: str, pieces: AsyncIterator[bytes], *, public: bool = False) -> Blob:
        return await self._blobs().upload(pieces)

    def fetch(self, blob: bytes) -> AsyncIterator[bytes]:
        return self._blobs().fetch(wire.Blob.FromString(blob))

    async def ask(self, query: wire.Query) -> wire.Answer:
        answer = await self._blobs().ask(query)
        if answer.HasField("error"):
            raise refused(answer.error)
        return answer

    @property
    def room(self) -> bool:
        """Whether the network keeps up with what it is sent."""
        return self._transport is None or self._transport.get_write_buffer_size() < _WRITE_AHEAD

    def _blobs(self) -> Transfers:
        if self._transport is None:
            raise ConnectionEnded(End.LOST, "closed")
        if self._transfers is None:
            self._transfers = Transfers(self.write, lambda: self.room)
        return self._transfers

    def _close(self, end: End, detail: str) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._end(end, detail)

    def _end(self, end: End, detail: str, retry_after: float = 0.0) -> None:
        """Tell everybody, once."""
        self._transport = None
        if self.ended is None:
            self.ended = ConnectionEnded(end, detail, retry_after)
        events, self._events = self._events, None
        outcome, self._outcome = self._outcome, None
        transfers, self._transfers = self._transfers, None
        if transfers is not None:
            transfers.end(ConnectionEnded(end, detail))
        if self.pairing is not None:
            self.pairing.put_nowait(None)
        if outcome is not None:
            if not outcome.done():
                outcome.set_exception(ConnectionEnded(end, detail, retry_after))
        elif events is not None:
            events.on_end(self, end, detail)

    def _on_ack(self, frame: wire.Frame) -> None:
        if self._events is not None:
            ack = frame.ack
            recipient = identity_of(ack.recipient) if ack.HasField("recipient") else None
            self._events.on_ack(ack.id, ack.time_us, recipient)

    def _on_receipt(self, frame: wire.Frame) -> None:
        receipt = frame.receipt
        kind = RECEIPTS.get(receipt.kind)
        if self._events is not None and kind is not None:
            self._events.on_receipt(receipt.id, kind, receipt.time_us, receipt.sequence)

    def _on_member_receipts(self, frame: wire.Frame) -> None:
        told = frame.member_receipts
        kind = RECEIPTS.get(told.kind)
        if self._events is not None and kind is not None:
            known = {one.participant: identity_of(one.identity) for one in told.known}
            members = MemberReceipts(told.id, kind, told.participants, told.times_us, known)
            self._events.on_member_receipts(members, told.sequence)

    def _on_reject(self, frame: wire.Frame) -> None:
        reject = frame.reject
        failure = FAILURES.get(reject.reason, Failure.OTHER)
        if self._events is not None:
            retry_after = reject.retry_after_ms / 1000
            self._events.on_reject(reject.id, failure, reject.message, retry_after, reject.code or None)

    def _on_inbound(self, frame: wire.Frame) -> None:
        if self._events is not None:
            self._intake.taken()
            self._events.on_incoming(from_wire(frame.inbound))

    def _on_login_ok(self, frame: wire.Frame) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome is not None and not outcome.done():
            outcome.set_result(frame.login_ok)

    def _on_login_refused(self, frame: wire.Frame) -> None:
        refused = frame.login_refused
        end = REFUSALS.get(refused.reason, End.REFUSED)
        if self._transport is not None:
            self._transport.close()
        known = wire.LoginRefusal.DESCRIPTOR.values_by_number.get(refused.reason)
        name = "" if known is None else known.name.removeprefix("LOGIN_REFUSAL_").replace("_", " ").lower()
        self._end(end, refused.message or name, refused.retry_after_ms / 1000)

    def _on_closing(self, frame: wire.Frame) -> None:
        closing = frame.closing
        self._close(CLOSINGS.get(closing.reason, End.LOST), closing.message)

    def _on_transfer(self, frame: wire.Frame) -> None:
        if self._transfers is not None:
            self._transfers.heard(frame)

    def _on_restrictions(self, frame: wire.Frame) -> None:
        if self._events is not None:
            self._events.on_restrictions([restriction_of(told) for told in frame.restrictions.restrictions])

    def _on_notice(self, frame: wire.Frame) -> None:
        if self._events is not None:
            self._events.on_notice(notice_of(frame.notice), frame.notice.sequence)

    def _on_typing(self, frame: wire.Frame) -> None:
        if self._events is not None:
            self._events.on_notice(typing_of(frame.typing), 0)

    def _on_presence(self, frame: wire.Frame) -> None:
        if self._events is not None:
            self._events.on_notice(presence_of(frame.presence), 0)

    def _on_pong(self, _frame: wire.Frame) -> None:
        """Being heard is all that it is for."""


_HANDLERS = {
    "ack": SimulatedLink._on_ack,
    "receipt": SimulatedLink._on_receipt,
    "member_receipts": SimulatedLink._on_member_receipts,
    "inbound": SimulatedLink._on_inbound,
    "pong": SimulatedLink._on_pong,
    "reject": SimulatedLink._on_reject,
    "restrictions": SimulatedLink._on_restrictions,
    "notice": SimulatedLink._on_notice,
    "typing": SimulatedLink._on_typing,
    "presence": SimulatedLink._on_presence,
    "login_ok": SimulatedLink._on_login_ok,
    "login_refused": SimulatedLink._on_login_refused,
    "closing": SimulatedLink._on_closing,
    "blob_stored": SimulatedLink._on_transfer,
    "blob_refused": SimulatedLink._on_transfer,
    "blob_chunk": SimulatedLink._on_transfer,
    "answer": SimulatedLink._on_transfer,
}
_PAIRING = frozenset({"pair_code", "paired", "pair_timeout", "pair_refused"})
_PING = encode(wire.Frame(ping=wire.Ping()).SerializeToString())
_WRITE_AHEAD = 1024 * 1024


def _die_with_the_process(sock: socket.socket) -> None:
    """The kernel must not deliver for a process that has lost the account: no lingering, no endless
    retransmission.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 5_000)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
