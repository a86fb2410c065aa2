"""A message on its way out, as the node keeps it until the network's answers have come."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Protocol

from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import Prefix, encode, made_at
from mesh_core.telemetry.tracing import Span
from mesh_session_node.context.metrics import kind_of
from mesh_session_node.drivers.interface.state import Reservation
from mesh_session_node.journal import OutboundMessage
from sessionmesh.v1 import message_pb2 as pb


class Outgoing:
    """`request` is the SendMessageRequest without its ids. Times are seconds since the epoch."""

    __slots__ = (
        "accepted",
        "attempts",
        "blobs",
        "chat",
        "delivered",
        "due",
        "event_base",
        "expire",
        "handed",
        "heard",
        "id",
        "kind",
        "network_id",
        "order",
        "poll",
        "prepared",
        "receipted",
        "request",
        "reservation",
        "room",
        "size",
        "span",
        "traceparent",
        "tries",
        "typed",
        "uuid",
        "wanted",
    )

    def __init__(
        self, uuid: UUID, network_id: str, chat: str, request: pb.SendMessageRequest, traceparent: str
    ) -> None:
        self.uuid = uuid
        self.id = encode(Prefix.MESSAGE, uuid)
        self.network_id = network_id
        self.chat = chat
        self.request = request
        self.traceparent = traceparent
        self.order = request.priority or pb.PRIORITY_NORMAL
        self.due = _seconds(request, "schedule_time")
        self.expire = _seconds(request, "expire_time")
        self.kind = kind_of(request.content)
        self.accepted = made_at(uuid)
        self.wanted = self.accepted if self.due is None else max(self.accepted, self.due)
        """When it was accepted, or due if that is later."""
        self.handed = 0.0
        """When the network was handed it last."""
        self.delivered = False
        """Somebody's device is known to have it."""
        self.event_base: bytes | None = None
        """What its status events have in common, serialised; made with the first one."""
        self.prepared: bytes | None = None
        """The driver's encoding, where it took more than the request to make."""
        self.blobs: Sequence[str] = ()
        self.poll: str | None = None
        """Of a vote that was prepared: the network's id of the poll."""
        self.attempts = 0
        """How often the network has been handed it, or may have been."""
        self.tries = 0
        """How often it was prepared."""
        self.typed = False
        """The account has been seen to write it, as its pacing wants."""
        self.size = 0
        """Bytes that are stored of it."""
        self.room: Room | None = None
        """Where it takes room, while it may still be sent."""
        self.heard = False
        """What members of its group confirm was heard of since it was sent."""
        self.receipted = 0
        """The last status that a receipt gave it, as far as is known here; of groups, that of no member."""
        self.reservation: Reservation | None = None
        self.span: Span | None = None

    def leave_room(self) -> None:
        """It will not be sent (again): others may have its room."""
        if self.room is not None:
            self.room.give_back(self)
            self.room = None

    def release_payload(self) -> None:
        """It will not be sent again: keep only what its events need."""
        self.leave_room()
        self.request = _RELEASED
        self.prepared = None
        self.reservation = None


class Room(Protocol):
    """The room of its account."""

    def give_back(self, out: Outgoing) -> None:
        """A message has ended."""


class Committable(Protocol):
    """The sender that accepted a message."""

    def committed(self, out: Outgoing) -> None:
        """It is stored."""


class AcceptedRow(OutboundMessage, frozen=True, gc=False, kw_only=True):
    """The journal's row of an accepted message, with `out` and the `sender` that is told of it after the
    commit.
    """

    out: Outgoing
    sender: Committable


def labels_of(request: pb.SendMessageRequest) -> str | None:
    """A request's labels as they are stored; None for none."""
    return json.dumps(dict(request.labels)) if request.labels else None


_RELEASED = pb.SendMessageRequest()


def _seconds(request: pb.SendMessageRequest, field: str) -> float | None:
    if not request.HasField(field):  # type: ignore[arg-type]  # one of two literals
        return None
    time = getattr(request, field)
    return float(time.seconds + time.nanos / 1e9)
