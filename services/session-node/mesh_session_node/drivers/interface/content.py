"""What passes between a session and a driver: messages, their files, and addresses as text.

An address is `phone:+4915112345678`, `user:...`, `group:...` or `hidden:...`; rows have it in the same form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sessionmesh.v1 import content_pb2
from sessionmesh.v1.common_pb2 import Recipient

_PREFIX = {"phone": "phone:", "user_id": "user:", "group_id": "group:", "hidden_id": "hidden:"}
_FIELD = {"phone": "phone", "user": "user_id", "group": "group_id", "hidden": "hidden_id"}


def address_of(recipient: Recipient) -> str:
    """The text of a recipient; "" when none is set."""
    kind = recipient.WhichOneof("kind")
    return "" if kind is None else _PREFIX[kind] + getattr(recipient, kind)


def recipient_of(address: str) -> Recipient:
    """The recipient that a text names; a text of any other form is taken for a person's id."""
    prefix, _, rest = address.partition(":")
    field = _FIELD.get(prefix)
    if field is None:
        return Recipient(user_id=address)
    recipient = Recipient()
    setattr(recipient, field, rest)
    return recipient


@dataclass(frozen=True, slots=True)
class Blob:
    """A file that the network stores. `ref` is the network's name for it, `size` is in bytes."""

    ref: str
    sha256: bytes
    size: int


@dataclass(frozen=True, slots=True)
class MediaPart:
    """The file of an outgoing message, once the network stores it. Width and height are in pixels."""

    blob: Blob
    mime_type: str
    file_name: str
    width: int = 0
    height: int = 0
    duration_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class References:
    """The earlier messages that a message refers to, by the network's ids. `target` is the one that a
    reaction is about, `reply_to_sender` the address of who wrote the one that is answered.
    """

    reply_to: str = ""
    reply_to_sender: str = ""
    target: str = ""


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """What a link sends. `to` is an address; `payload` and `blobs` are from the driver's `encode`."""

    network_id: str
    to: str
    payload: bytes
    blobs: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message from the network. `chat`, `sender` and `mentions` are addresses; `reply_to` and `target` are
    the network's ids of earlier messages.

    `blob` is what `Link.fetch` takes to read its file. `target` is the message that a reaction, edit or
    revocation is about; `edited` is an edited message's new content. `time` is microseconds since the epoch.
    """

    network_id: str
    chat: str
    sender: str
    push_name: str
    content: content_pb2.Content
    time: int
    reply_to: str = ""
    target: str = ""
    mentions: Sequence[str] = ()
    forwarded: bool = False
    expire_seconds: int = 0
    blob: bytes | None = None
    edited: content_pb2.Content | None = None
