"""What the sidecar says and is told, and the session's form of it."""

from __future__ import annotations

from base64 import b64decode, b64encode

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_session_node.drivers.interface.content import (
    SENT_BEFORE,
    Blob,
    Identity,
    Incoming,
    MediaPart,
    Reference,
    References,
)
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End, Failure, Receipt
from mesh_session_node.drivers.whatsapp_web.connection import changes_of
from mesh_session_node.drivers.whatsapp_web.telemetry import receive
from sessionmesh.internal.v1 import linked_device_pb2 as pb
from sessionmesh.v1 import message_pb2

SENDABLE = frozenset(
    {
        "text",
        "image",
        "video",
        "audio",
        "voice_note",
        "document",
        "sticker",
        "location",
        "contact_cards",
        "poll",
        "reaction",
        "buttons",
        "list",
        "group_invite",
        "appointment",
        "album",
        "live_location",
        "poll_vote",
        "choice",
        "location_request",
    }
)
"""The kinds of content that are sent."""


def to_device_message(
    request: message_pb2.SendMessageRequest, references: References, media: MediaPart | None
) -> bytes:
    """The serialised `DeviceMessage`."""
    message = pb.DeviceMessage()
    message.request.content.CopyFrom(request.content)
    if request.HasField("options"):
        message.request.options.CopyFrom(request.options)
    if references.reply_to is not None:
        refer(message.reply_to, references.reply_to)
    if references.target is not None:
        refer(message.target, references.target)
    if references.album is not None:
        refer(message.album, references.album)
    if media is not None:
        if media.blob != SENT_BEFORE:
            message.file.MergeFromString(b64decode(media.blob.ref))
        message.media.CopyFrom(media.media)
    return message.SerializeToString()


def blob_of(stored: pb.StoredFile) -> Blob:
    """A file that the network stores; its reference says all that a message needs of it."""
    ref = b64encode(stored.SerializeToString()).decode()
    return Blob(ref, stored.sha256, stored.size_bytes)


def incoming_of(came: pb.IncomingMessage, own: str) -> Incoming:
    """What arrived; acknowledged by its sequence. `own` is the account's address.

    Raises `ValueError` for rows that cannot be stored.
    """
    return Incoming(
        network_id=came.network_message_id,
        chat=came.chat,
        sender=came.sender,
        push_name="" if came.from_account else came.identity.push_name,
        content=came.content,
        time=micros(came.time),
        from_account=came.from_account,
        identity=identity_of(came.identity) if came.HasField("identity") else None,
        reply_to=_reference(came.reply_to, own) if came.HasField("reply_to") else None,
        target=_reference(came.target, own) if came.HasField("target") else None,
        mentions=tuple(came.mentions),
        forward_score=came.forward_score,
        expire_seconds=came.expire_seconds,
        album=came.album,
        blob=came.file or None,
        edited=came.edited if came.HasField("edited") else None,
        offered_as=str(came.sequence),
        changes=changes_of(came.changes),
        history=came.history,
        traceparent=receive(came.steps),
    )


def identity_of(identity: pb.DeviceIdentity) -> Identity:
    """Who somebody is, as the sidecar says it."""
    return Identity(identity.phone, identity.user_id, identity.hidden_id, identity.username)


def ended_of(ended: pb.DeviceEnded) -> ConnectionEnded:
    """Why a connection has ended."""
    return ConnectionEnded(_ENDS.get(ended.end, End.LOST), ended.detail, seconds(ended.retry_after))


def failure_of(reason: pb.DeviceRejection.ValueType) -> Failure:
    """Why a message was refused."""
    return _FAILURES.get(reason, Failure.OTHER)


def receipt_of(receipt: pb.DeviceReceipt.ValueType) -> Receipt | None:
    """What became of a message; None for what this version does not know."""
    return _RECEIPTS.get(receipt)


def micros(time: Timestamp) -> int:
    """Microseconds since the epoch."""
    return time.seconds * 1_000_000 + time.nanos // 1000


def seconds(duration: Duration) -> float:
    """0 for one that is not set."""
    return duration.seconds + duration.nanos / 1e9


def refer(field: pb.ReferredMessage, reference: Reference) -> None:
    """Name an earlier message."""
    field.network_message_id = reference.network_id
    field.chat = reference.chat
    field.sender = reference.sender
    if reference.content is not None:
        field.content.CopyFrom(reference.content)


def _reference(referred: pb.ReferredMessage, own: str) -> Reference:
    content = referred.content if referred.HasField("content") else None
    return Reference(referred.network_message_id, referred.chat, referred.sender or own, content)


_ENDS = {
    pb.DEVICE_END_LOST: End.LOST,
    pb.DEVICE_END_REFUSED: End.REFUSED,
    pb.DEVICE_END_REPLACED: End.REPLACED,
    pb.DEVICE_END_LOGGED_OUT: End.LOGGED_OUT,
    pb.DEVICE_END_BANNED: End.BANNED,
    pb.DEVICE_END_CLIENT_EXPIRED: End.CLIENT_EXPIRED,
    pb.DEVICE_END_STATE_UNUSABLE: End.STATE_UNUSABLE,
}
_FAILURES = {
    pb.DEVICE_REJECTION_UNKNOWN_RECIPIENT: Failure.UNKNOWN_RECIPIENT,
    pb.DEVICE_REJECTION_NOT_A_MEMBER: Failure.NOT_A_MEMBER,
    pb.DEVICE_REJECTION_BLOCKED: Failure.BLOCKED,
    pb.DEVICE_REJECTION_CONTENT: Failure.CONTENT,
    pb.DEVICE_REJECTION_RATE_LIMITED: Failure.RATE_LIMITED,
    pb.DEVICE_REJECTION_RESTRICTED: Failure.RESTRICTED,
    pb.DEVICE_REJECTION_FILE_GONE: Failure.BLOB_GONE,
    pb.DEVICE_REJECTION_UNSUPPORTED: Failure.CONTENT,
    pb.DEVICE_REJECTION_NOT_SENT: Failure.NOT_SENT,
}
_RECEIPTS = {
    pb.DEVICE_RECEIPT_DELIVERED: Receipt.DELIVERED,
    pb.DEVICE_RECEIPT_READ: Receipt.READ,
    pb.DEVICE_RECEIPT_PLAYED: Receipt.PLAYED,
}
