"""What becomes of messages and logins, and what an account may not do, as the network says it."""

from __future__ import annotations

from mesh_session_node.drivers.interface.outcomes import End, Failure, Receipt
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import session_pb2


def restriction_of(told: wire.Restriction) -> session_pb2.Restriction:
    kind = _RESTRICTIONS.get(told.kind, session_pb2.RESTRICTION_KIND_UNSPECIFIED)
    restriction = session_pb2.Restriction(kind=kind, detail=told.message)
    if told.until_us:
        until = restriction.until_time
        until.seconds, micros = divmod(told.until_us, 1_000_000)
        until.nanos = micros * 1000
    if told.HasField("remaining"):
        restriction.remaining = min(told.remaining, 2**63 - 1)
    return restriction


RECEIPTS = {
    wire.RECEIPT_KIND_DELIVERED: Receipt.DELIVERED,
    wire.RECEIPT_KIND_READ: Receipt.READ,
    wire.RECEIPT_KIND_PLAYED: Receipt.PLAYED,
}
FAILURES = {
    wire.REJECT_REASON_UNKNOWN_RECIPIENT: Failure.UNKNOWN_RECIPIENT,
    wire.REJECT_REASON_NOT_A_MEMBER: Failure.NOT_A_MEMBER,
    wire.REJECT_REASON_RATE_LIMITED: Failure.RATE_LIMITED,
    wire.REJECT_REASON_TOO_LARGE: Failure.CONTENT,
    wire.REJECT_REASON_MALFORMED: Failure.UNKNOWN_RECIPIENT,
    wire.REJECT_REASON_RATCHET_REUSED: Failure.RATCHET,
    wire.REJECT_REASON_RATCHET_BACK: Failure.RATCHET,
    wire.REJECT_REASON_UNKNOWN_BLOB: Failure.BLOB_GONE,
    wire.REJECT_REASON_BLOCKED: Failure.BLOCKED,
    wire.REJECT_REASON_RESTRICTED: Failure.RESTRICTED,
    wire.REJECT_REASON_WINDOW_CLOSED: Failure.WINDOW_CLOSED,
    wire.REJECT_REASON_TEMPLATE: Failure.TEMPLATE,
    wire.REJECT_REASON_FREQUENCY_CAPPED: Failure.FREQUENCY_CAPPED,
    wire.REJECT_REASON_PAYMENT: Failure.PAYMENT,
    wire.REJECT_REASON_RECIPIENT_INCAPABLE: Failure.RECIPIENT_INCAPABLE,
}
_RESTRICTIONS = {
    wire.RESTRICTION_KIND_NEW_CHATS: session_pb2.RESTRICTION_KIND_NEW_CHATS,
    wire.RESTRICTION_KIND_SENDING: session_pb2.RESTRICTION_KIND_SENDING,
    wire.RESTRICTION_KIND_GROUPS: session_pb2.RESTRICTION_KIND_GROUPS,
    wire.RESTRICTION_KIND_TEMPLATES: session_pb2.RESTRICTION_KIND_TEMPLATES,
}
REFUSALS = {
    wire.LOGIN_REFUSAL_BAD_CREDENTIALS: End.LOGGED_OUT,
    wire.LOGIN_REFUSAL_LOGGED_OUT: End.LOGGED_OUT,
    wire.LOGIN_REFUSAL_BANNED: End.BANNED,
}
CLOSINGS = {
    wire.CLOSING_REASON_REPLACED: End.REPLACED,
    wire.CLOSING_REASON_BANNED: End.BANNED,
    wire.CLOSING_REASON_LOGGED_OUT: End.LOGGED_OUT,
}
