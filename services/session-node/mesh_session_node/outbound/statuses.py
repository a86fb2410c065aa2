"""Statuses of outbound messages: their events, and the end of those that were not sent."""

from __future__ import annotations

import time

from mesh_core.telemetry import tracing
from mesh_session_node.context import metrics
from mesh_session_node.context.context import SessionContext
from mesh_session_node.journal import Event, StatusChange
from mesh_session_node.outbound.member_events import status_with
from mesh_session_node.outbound.outgoing import Outgoing
from mesh_session_node.outbound.waiters import Waiters
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import Person


def status_event(
    context: SessionContext,
    out: Outgoing,
    status: pb.MessageStatus.ValueType,
    micros: int,
    *,
    failure: pb.FailureReason.ValueType = pb.FAILURE_REASON_UNSPECIFIED,
    code: int | None = None,
    detail: str = "",
    member: Person | None = None,
    members: bytes = b"",
) -> Event:
    """The event of a message's new status. `member` is the group's member whose receipt it is, where it is
    one; `members` are all of them, serialised.
    """
    events, base = context.events, out.event_base
    if base is None:
        base = events.message_base(out.id, out.network_id, out.request, out.traceparent, context.people)
        out.event_base = base
    event = events.status(base, status, micros, failure=failure, code=code, detail=detail, member=member)
    return Event(event.id, event.type, event.body + status_with(members)) if members else event


def count_status(out: Outgoing, status: pb.MessageStatus.ValueType) -> None:
    """A message has this status now, for the first time."""
    metrics.MESSAGES.labels("outbound", out.kind, metrics.STATUS_NAMES[status]).inc()


def count_receipt(out: Outgoing, status: pb.MessageStatus.ValueType) -> None:
    """The same of one that some device has, as this status says."""
    count_status(out, status)
    if not out.delivered:
        out.delivered = True
        metrics.DELIVERY_DURATION.observe(time.time() - out.wanted, out.traceparent)


def trace_receipt(out: Outgoing, receipt: str) -> None:
    """The network has told what became of a message."""
    if tracing.is_sampled(out.traceparent):
        attributes = {"messaging.message.id": out.id, "mesh.receipt": receipt}
        tracing.start_span(
            "mesh.driver.receipt", kind="consumer", parent=out.traceparent, attributes=attributes
        ).end()


def end_unsent(
    context: SessionContext,
    waiters: Waiters,
    out: Outgoing,
    status: pb.MessageStatus.ValueType,
    failure: pb.FailureReason.ValueType = pb.FAILURE_REASON_UNSPECIFIED,
    detail: str = "",
    code: int | None = None,
) -> None:
    """A message will not be sent (again): store that it is FAILED, EXPIRED or IN_DOUBT, and tell its
    caller.
    """
    micros = time.time_ns() // 1000
    out.leave_room()
    if status == pb.MESSAGE_STATUS_FAILED:
        context.counters.failed += 1
    count_status(out, status)
    if status != pb.MESSAGE_STATUS_IN_DOUBT:
        why = pb.FailureReason.Name(failure).removeprefix("FAILURE_REASON_") if failure else "EXPIRED"
        metrics.FAILED.labels(why).inc()
    event = status_event(context, out, status, micros, failure=failure, code=code, detail=detail)
    change = StatusChange(out.uuid, status, micros, event, failure or None, code, detail or None)
    context.host.journal.post(context.ref, change)
    waiters.tell(out.uuid, out)
