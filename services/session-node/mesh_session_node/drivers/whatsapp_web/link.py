"""A linked device's connection, as its session uses it. All of it is synchronous but files and questions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from mesh_session_node.drivers.interface.content import Blob, OutgoingMessage
from mesh_session_node.drivers.interface.driver import LinkEvents
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End, MemberReceipts, Receipt
from mesh_session_node.drivers.interface.state import StateRows
from mesh_session_node.drivers.whatsapp_web.calling import refused
from mesh_session_node.drivers.whatsapp_web.channel_actions import WebChannelActions
from mesh_session_node.drivers.whatsapp_web.chat_actions import WebChatActions
from mesh_session_node.drivers.whatsapp_web.connection import Connection, Rows
from mesh_session_node.drivers.whatsapp_web.contact_actions import WebContactActions
from mesh_session_node.drivers.whatsapp_web.encoding import (
    ended_of,
    failure_of,
    identity_of,
    incoming_of,
    micros,
    receipt_of,
    seconds,
)
from mesh_session_node.drivers.whatsapp_web.files import Files
from mesh_session_node.drivers.whatsapp_web.group_actions import WebGroupActions
from mesh_session_node.drivers.whatsapp_web.message_actions import WebMessageActions, WebPresenceActions
from mesh_session_node.drivers.whatsapp_web.notices import notice_of
from mesh_session_node.drivers.whatsapp_web.profile_actions import WebProfileActions
from mesh_session_node.drivers.whatsapp_web.stream import Stream
from mesh_session_node.drivers.whatsapp_web.telemetry import record
from sessionmesh.internal.v1 import linked_device_pb2 as pb

_HEARD = frozenset({"connected", "acked", "incoming", "receipt", "heard", "restrictions", "notice"})
"""What the sidecar says only when something came from the network."""


class WebLink(
    WebMessageActions,
    WebContactActions,
    WebProfileActions,
    WebPresenceActions,
    WebGroupActions,
    WebChannelActions,
    WebChatActions,
):
    """Implements `Link`: opened, then logged in, then ended, then closed."""

    __slots__ = (
        "_asked",
        "_connection",
        "_events",
        "_files",
        "_last_call",
        "_loop",
        "_outcome",
        "_own",
        "_rows",
        "_traced",
        "ended",
        "heard",
        "history_seconds",
    )

    def __init__(
        self, stream: Stream, own: str, rows: StateRows, events: LinkEvents, history_seconds: float
    ) -> None:
        """`own` is the account's address."""
        self.history_seconds = history_seconds
        self._loop = asyncio.get_running_loop()
        self._own = own
        self._events: LinkEvents | None = events
        self._connection = Connection(stream, self)
        self._rows = Rows(self._connection, rows)
        self._files = Files(self._connection)
        self._outcome: asyncio.Future[None] | None = None
        self._asked: dict[int, asyncio.Future[pb.DeviceCallResult]] = {}
        self._traced: dict[str, str] = {}  # messages on their way, with the spans of sending them
        self._last_call = 0
        self.heard = self._loop.time()
        self.ended: ConnectionEnded | None = None

    async def log_in(self, opening: pb.OpenDevice) -> None:
        """Connect. Raises `ConnectionEnded`: then, as when cancelled, nothing of it leaves any more."""
        self._outcome = self._loop.create_future()
        if self._events is not None:
            self._events.on_opening(self)
        self._connection.ask(pb.RunRequest(open=opening))
        try:
            await self._outcome
        except BaseException:  # also when cancelled: nobody else would close it
            self.abort()
            await self.closed()
            raise

    # --- Link

    def send(self, message: OutgoingMessage) -> None:
        if self.ended is None:
            send = pb.SendDeviceMessage(
                network_message_id=message.network_id, recipient=message.to, message=message.payload
            )
            if message.traceparent:
                send.traced = True
                self._traced[message.network_id] = message.traceparent
            self._connection.ask(pb.RunRequest(send=send))

    def acknowledge(self, network_id: str) -> None:
        """`network_id` is the sequence under which the message came."""
        if self.ended is None:
            self._rows.settled(int(network_id), stored=True)

    def acknowledge_receipts(self, sequence: int) -> None:
        self._connection.ask(pb.RunRequest(receipts_stored=pb.ReceiptsStored(sequence=sequence)))

    def acknowledge_notice(self, sequence: int) -> None:
        self._connection.ask(pb.RunRequest(notice_stored=pb.NoticeStored(sequence=sequence)))

    def ping(self) -> None:
        self._connection.ask(pb.RunRequest(ping=pb.PingNetwork()))

    def log_out(self) -> None:
        self._connection.ask(pb.RunRequest(log_out=pb.LogOutDevice()))

    def abort(self) -> None:
        self._events = None
        self._end(ConnectionEnded(End.LOST, "closed"))

    async def closed(self) -> None:
        await self._connection.closed()

    async def upload(self, kind: str, pieces: AsyncIterator[bytes], *, public: bool = False) -> Blob:
        self._check_open()
        return await self._files.upload(kind, pieces, public=public)

    def fetch(self, blob: bytes) -> AsyncIterator[bytes]:
        self._check_open()
        return self._files.fetch(blob)

    # --- Listener

    def on_response(self, kind: str, response: pb.RunResponse) -> None:
        if kind in _HEARD:
            self.heard = self._loop.time()
        if (handle := _HANDLERS.get(kind)) is not None:
            handle(self, response)

    def on_gone(self, end: End, detail: str) -> None:
        self._end(ConnectionEnded(end, detail))

    def _check_open(self) -> None:
        if self.ended is not None:
            raise ConnectionEnded(self.ended.end, self.ended.detail)

    async def call(self, call: pb.DeviceCall) -> pb.DeviceCallResult:
        self._check_open()
        self._last_call += 1
        call.sequence = self._last_call
        asked = self._asked[call.sequence] = self._loop.create_future()
        self._connection.ask(pb.RunRequest(call=call))
        try:
            async with asyncio.timeout(_ANSWER_WITHIN):
                answer: pb.DeviceCallResult = await asked
        finally:
            self._asked.pop(call.sequence, None)
        if answer.refusal:
            raise refused(answer)
        if answer.error:
            raise ConnectionEnded(End.LOST, answer.error)
        return answer

    def _end(self, ended: ConnectionEnded) -> None:
        """Tell everybody, once, and have the sidecar close what it still has."""
        if self.ended is not None:
            return
        self.ended = ended
        self._connection.close()
        self._rows.end()
        self._files.end(ended)
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(ConnectionEnded(ended.end, ended.detail))
        events, self._events = self._events, None
        outcome, self._outcome = self._outcome, None
        if outcome is not None:
            if not outcome.done():
                outcome.set_exception(ended)
        elif events is not None:
            events.on_end(self, ended.end, ended.detail)

    def _on_connected(self, _response: pb.RunResponse) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome is not None and not outcome.done():
            outcome.set_result(None)

    def _on_ended(self, response: pb.RunResponse) -> None:
        self._end(ended_of(response.ended))

    def _on_read_rows(self, response: pb.RunResponse) -> None:
        self._rows.read(response.read_rows)

    def _on_read_message(self, response: pb.RunResponse) -> None:
        if self._events is not None:
            self._rows.read_message(response.read_message, self._events)

    def _on_write_rows(self, response: pb.RunResponse) -> None:
        self._rows.write(response.write_rows)

    def _on_acked(self, response: pb.RunResponse) -> None:
        if self._events is not None:
            acked = response.acked
            self._record(acked.network_message_id, acked.steps)
            recipient = identity_of(acked.recipient) if acked.HasField("recipient") else None
            self._events.on_ack(acked.network_message_id, micros(acked.time), recipient)

    def _on_rejected(self, response: pb.RunResponse) -> None:
        if self._events is not None:
            told = response.rejected
            self._record(told.network_message_id, told.steps)
            failure, wait = failure_of(told.reason), seconds(told.retry_after)
            self._events.on_reject(told.network_message_id, failure, told.detail, wait, told.code or None)

    def _record(self, network_id: str, steps: Sequence[pb.DeviceStep]) -> None:
        if self._traced:
            record(self._traced.pop(network_id, ""), steps)

    def _on_incoming(self, response: pb.RunResponse) -> None:
        if self._events is not None:
            came = incoming_of(response.incoming, self._own)
            self._rows.count_unsettled()
            self._events.on_incoming(came)

    def _on_receipt(self, response: pb.RunResponse) -> None:
        told = response.receipt
        receipt = receipt_of(told.receipt)
        if self._events is None:
            return
        if receipt is None:
            self.acknowledge_receipts(told.sequence)
            return
        *others, last = told.network_message_ids
        for network_id in others:
            self._told_of(network_id, receipt, told, 0)
        self._told_of(last, receipt, told, told.sequence)

    def _told_of(self, network_id: str, receipt: Receipt, told: pb.MessageReceipt, sequence: int) -> None:
        if self._events is None:
            return
        if not told.members:
            self._events.on_receipt(network_id, receipt, micros(told.time), sequence)
            return
        known = {one.member: identity_of(one.identity) for one in told.known}
        members = MemberReceipts(network_id, receipt, told.members, told.member_times, known)
        self._events.on_member_receipts(members, sequence)

    def _on_restrictions(self, response: pb.RunResponse) -> None:
        if self._events is not None:
            self._events.on_restrictions(tuple(response.restrictions.restrictions))

    def _on_notice(self, response: pb.RunResponse) -> None:
        if self._events is not None:
            told = response.notice
            self._events.on_notice(notice_of(told), told.sequence)

    def _on_piece(self, response: pb.RunResponse) -> None:
        self._files.on_response(response.piece.file, response)

    def _on_next(self, response: pb.RunResponse) -> None:
        self._files.on_response(response.next.file, response)

    def _on_file_done(self, response: pb.RunResponse) -> None:
        self._files.on_response(response.file_done.file, response)

    def _on_call_result(self, response: pb.RunResponse) -> None:
        asked = self._asked.get(response.call_result.sequence)
        if asked is not None and not asked.done():
            asked.set_result(response.call_result)


_ANSWER_WITHIN = 40.0
"""Seconds: the sidecar gives the network 30."""
_HANDLERS = {
    "connected": WebLink._on_connected,
    "ended": WebLink._on_ended,
    "read_rows": WebLink._on_read_rows,
    "read_message": WebLink._on_read_message,
    "write_rows": WebLink._on_write_rows,
    "acked": WebLink._on_acked,
    "rejected": WebLink._on_rejected,
    "incoming": WebLink._on_incoming,
    "receipt": WebLink._on_receipt,
    "restrictions": WebLink._on_restrictions,
    "notice": WebLink._on_notice,
    "piece": WebLink._on_piece,
    "next": WebLink._on_next,
    "file_done": WebLink._on_file_done,
    "call_result": WebLink._on_call_result,
}
