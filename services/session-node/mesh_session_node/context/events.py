"""The events of one account, as the journal stores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core.ids import Prefix, encode, new_uuid
from mesh_session_node.context.people import People
from mesh_session_node.journal import Event, Row
from sessionmesh.v1 import contact_pb2, content_pb2, media_pb2, message_pb2, session_pb2
from sessionmesh.v1 import event_pb2 as pb
from sessionmesh.v1.common_pb2 import MessageRef, Person

STATUS_TYPES = {
    number: f"message.{name.removeprefix('MESSAGE_STATUS_').lower()}"
    for name, number in message_pb2.MessageStatus.items()
    if number
}


def timestamp(micros: int) -> Timestamp:
    """A point in time, from microseconds since the epoch."""
    seconds, rest = divmod(micros, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1000)


class EventMaker:
    """Makes the events of one account."""

    __slots__ = ("account_id", "labels", "tenant_id")

    def __init__(self, tenant_id: str, account_id: str, labels: Mapping[str, str]) -> None:
        self.tenant_id = tenant_id
        self.account_id = account_id
        self.labels = labels

    def status(
        self,
        base: bytes,
        status: message_pb2.MessageStatus.ValueType,
        micros: int,
        *,
        failure: message_pb2.FailureReason.ValueType = message_pb2.FAILURE_REASON_UNSPECIFIED,
        code: int | None = None,
        detail: str = "",
        member: Person | None = None,
    ) -> Event:
        """An outbound message's status; `base` is the message's, from `message_base`.

        Two serialised messages one after the other are one message with the fields of both: the rule of
        protobuf that makes this short.
        """
        uuid, type_ = new_uuid(), STATUS_TYPES[status]
        time = timestamp(micros)
        changed = pb.MessageStatusEvent(status=status, status_time=time)
        if failure or detail:
            changed.failure, changed.failure_detail = failure, detail
            if code is not None:
                changed.failure_code = code
        if member is not None:
            changed.member.CopyFrom(member)
        event = pb.Event(id=encode(Prefix.EVENT, uuid), type=type_, occur_time=time, message_status=changed)
        return Event(uuid, type_, base + event.SerializeToString())

    def message_base(
        self,
        message_id: str,
        network_id: str,
        request: message_pb2.SendMessageRequest,
        traceparent: str,
        people: People,
    ) -> bytes:
        """What all status events of one outbound message have in common, serialised."""
        event = pb.Event(tenant_id=self.tenant_id, account_id=self.account_id, traceparent=traceparent)
        if self.labels or request.labels:
            event.labels.update(self.labels)
            event.labels.update(request.labels)
        about = event.message_status
        about.message_id = message_id
        about.chat = request.recipient
        people.show(about, request.recipient)
        about.network_message_id = network_id
        about.external_id = request.external_id
        return event.SerializeToString()

    def received(self, message: message_pb2.Message, micros: int, traceparent: str) -> Event:
        """A message that somebody else wrote, or that another device of the account did."""
        synced = message.direction == message_pb2.DIRECTION_OUTBOUND
        event = self._begin("message.synced" if synced else "message.received", micros, traceparent, {})
        event.message.message.CopyFrom(message)
        return _row(event)

    def reaction(self, message: message_pb2.Message, micros: int, traceparent: str) -> Event:
        """Somebody reacted."""
        event = self._begin("message.reaction", micros, traceparent, {})
        reaction = message.content.reaction
        event.reaction.message.CopyFrom(reaction.message)
        event.reaction.emoji = reaction.emoji
        event.reaction.sender.CopyFrom(message.sender)
        return _row(event)

    def poll(
        self,
        poll: MessageRef,
        voter: Person,
        answers: Sequence[str],
        totals: Sequence[content_pb2.PollTotal],
        micros: int,
        labels: Mapping[str, str],
    ) -> Event:
        """Somebody voted."""
        event = self._begin("poll.voted", micros, "", labels)
        told = event.poll
        told.poll.CopyFrom(poll)
        told.voter.CopyFrom(voter)
        told.answers.extend(answers)
        told.totals.extend(totals)
        return _row(event)

    def contact(self, type_: str, contact: contact_pb2.Contact, micros: int) -> Event:
        """`contact.updated` or `contact.deleted`."""
        event = self._begin(type_, micros, "", {})
        event.contact.contact.CopyFrom(contact)
        return _row(event)

    def changed(self, type_: str, message: message_pb2.Message, micros: int) -> Event:
        """`message.edited` or `message.revoked`."""
        event = self._begin(type_, micros, message.traceparent, message.labels)
        event.message_changed.message.CopyFrom(message)
        return _row(event)

    def session(
        self,
        session: session_pb2.Session,
        previous: session_pb2.SessionState.ValueType,
        micros: int,
        traceparent: str,
    ) -> Event:
        """The session's state changed."""
        event = self._begin("session.state_changed", micros, traceparent, {})
        event.session.session.CopyFrom(session)
        event.session.previous_state = previous
        return _row(event)

    def restrictions(self, session: session_pb2.Session, micros: int) -> Event:
        """What the network does not let the account do changed."""
        event = self._begin("session.restrictions_changed", micros, "", {})
        event.session.session.CopyFrom(session)
        return _row(event)

    def pairing(self, step: session_pb2.PairResponse, micros: int, traceparent: str) -> Event:
        """A pairing attempt moved on. The picture is left out."""
        event = self._begin("session.pairing", micros, traceparent, {})
        event.pairing.step.CopyFrom(step)
        if step.HasField("qr"):
            event.pairing.step.qr.ClearField("png")
            event.pairing.step.qr.ClearField("terminal")
        return _row(event)

    def of(self, type_: str, micros: int, **payload: Message) -> Event:
        """An event of this type; `payload` is one field of the event, and what it holds."""
        event = self._begin(type_, micros, "", {})
        for field, value in payload.items():
            getattr(event, field).CopyFrom(value)
        return _row(event)

    def media(
        self, media: media_pb2.Media, message_id: str, micros: int, traceparent: str, *, ready: bool
    ) -> Event:
        """An inbound message's file was stored, or is lost."""
        event = self._begin("media.ready" if ready else "media.failed", micros, traceparent, {})
        event.media.media.CopyFrom(media)
        event.media.message_id = message_id
        return _row(event)

    def _begin(self, type_: str, micros: int, traceparent: str, labels: Mapping[str, str]) -> pb.Event:
        event = pb.Event(
            tenant_id=self.tenant_id,
            account_id=self.account_id,
            type=type_,
            occur_time=timestamp(micros),
            traceparent=traceparent,
        )
        if self.labels:
            event.labels.update(self.labels)
        if labels:
            event.labels.update(labels)
        return event


def in_trace(row: Row, traceparent: str) -> Row:
    """An event with that trace, if it has none of its own; any other row as it is. (What comes later in a
    serialised message counts.)
    """
    if not isinstance(row, Event) or not traceparent:
        return row
    return Event(row.id, row.type, pb.Event(traceparent=traceparent).SerializeToString() + row.body)


def _row(event: pb.Event) -> Event:
    uuid = new_uuid()
    event.id = encode(Prefix.EVENT, uuid)
    return Event(uuid, event.type, event.SerializeToString())
