"""What passes between a session and a driver: messages with their ids and files, and who people are.

Addresses are canonical ones, as `mesh_core.addresses` has them; rows have them in the same form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from asyncpg.pgproto.pgproto import UUID

from mesh_session_node.drivers.interface.state import RowChange
from sessionmesh.v1 import content_pb2, media_pb2, message_pb2
from sessionmesh.v1.common_pb2 import Person


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is, as far as the network tells; what it does not tell is empty."""

    phone: str = ""
    user_id: str = ""
    hidden_id: str = ""
    username: str = ""


def person_of(address: str, identity: Identity | None = None, display_name: str = "") -> Person:
    """A person, with all that the address and the network say of them."""
    person = Person(display_name=display_name)
    describe(person, address)
    if identity is not None:
        for name in _FIELDS.values():
            if value := getattr(identity, name):
                setattr(person, name, value)
    return person


def describe(person: Person, address: str) -> None:
    """Fill in what a person's address says."""
    person.address = address
    kind, _, rest = address.partition(":")
    if (field := _FIELDS.get(kind)) is not None:
        setattr(person, field, rest)


def names_of(person: Person) -> list[str]:
    """The addresses that a person is known by, the most lasting first."""
    return [f"{kind}:{value}" for kind in _LASTING if (value := getattr(person, _FIELDS[kind]))]


def is_one_of(identity: Identity, address: str, other: Identity | None = None) -> bool:
    """Whether an address, or anything else that is known of who it names, is one of this identity's."""
    named = person_of(address, other)
    names = [(getattr(identity, name), getattr(named, name)) for name in _FIELDS.values()]
    return any(one and one == another for one, another in names)


STATUS = "status"
"""The address of the account's status, where posts go."""


def audience_of(request: message_pb2.SendMessageRequest) -> message_pb2.StatusAudience | None:
    """Who sees a status post, where its request says so."""
    return request.options.audience if request.options.HasField("audience") else None


def is_person(address: str) -> bool:
    """Whether a chat's address is one person's, and not a group's, a channel's or the status."""
    return address.partition(":")[0] in _FIELDS


def is_channel(address: str) -> bool:
    """Whether a chat's address is a channel's."""
    return address.startswith("channel:")


def refers(request: message_pb2.SendMessageRequest) -> bool:
    """Whether a request refers to a file or to another message: what most networks need prepared."""
    if request.content.WhichOneof("kind") in _REFERRING:
        return True
    return request.HasField("options") and request.options.HasField("reply_to")


_REFERRING = frozenset(
    {
        "image",
        "video",
        "audio",
        "voice_note",
        "document",
        "sticker",
        "reaction",
        "poll_vote",
        "choice",
    }
)
_FIELDS = {"phone": "phone", "user": "user_id", "hidden": "hidden_id", "username": "username"}
_LASTING = ("user", "hidden", "phone", "username")


@dataclass(frozen=True, slots=True)
class Blob:
    """A file that the network stores. `ref` is the network's name for it, `size` is in bytes."""

    ref: str
    sha256: bytes
    size: int


SENT_BEFORE = Blob("", b"", 0)
"""The file of a message that was sent before: where the network has it, the driver keeps."""


@dataclass(frozen=True, slots=True)
class MediaPart:
    """The file of an outgoing message, once the network stores it, and what the mesh knows of it."""

    blob: Blob
    media: media_pb2.Media


@dataclass(frozen=True, slots=True)
class Reference:
    """An earlier message, by the network's id. `chat` is its chat's address, `sender` the address of who
    wrote it: "" for the account itself. `content` is what it says, where that is known, and `time` when the
    network took it, in microseconds since the epoch; 0: not known.
    """

    network_id: str
    chat: str = ""
    sender: str = ""
    content: content_pb2.Content | None = None
    time: int = 0


@dataclass(frozen=True, slots=True)
class References:
    """The earlier messages that a message refers to: the one that it answers, the one that a reaction, a vote
    or a choice is about, and the album that it is part of.
    """

    reply_to: Reference | None = None
    target: Reference | None = None
    album: Reference | None = None


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """What a link sends. `to` is an address; `payload` and `blobs` are from the driver's `encode`.
    `traceparent` is of the span of its sending; "" where that is not recorded. `audience` is who sees a
    status post, whose `to` is `STATUS`, where its request says so.
    """

    network_id: str
    to: str
    payload: bytes
    blobs: Sequence[str] = ()
    traceparent: str = ""
    audience: message_pb2.StatusAudience | None = None


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message from the network. `chat`, `sender` and `mentions` are addresses. `time` is microseconds since
    the epoch.

    `from_account`: another device of the account sent it. `identity` says who the sender is; with
    `from_account`, and not in a group, who the recipient is.

    `reply_to` is the message that it answers, `target` the one that a reaction, a vote, a choice, an edit or
    a revocation is about; `edited` is an edited message's new content. The `sender` of both is "" where the
    network does not say who wrote them. `blob` is what `Link.fetch` takes to read its file.

    `offered_as` is the id that the network offered it under, where that is not `network_id`: what is
    acknowledged.

    `changes` are rows of the account's state that must be stored together with it: also when the message is
    known already, or cannot be stored as it is. `history`: it is of the past that the phone gave on pairing.

    `traceparent` is of the span in which the driver received it; "" where the driver has begun no trace.
    """

    network_id: str
    chat: str
    sender: str
    push_name: str
    content: content_pb2.Content
    time: int
    from_account: bool = False
    identity: Identity | None = None
    reply_to: Reference | None = None
    target: Reference | None = None
    mentions: Sequence[str] = ()
    forward_score: int = 0
    expire_seconds: int = 0
    album: str = ""
    blob: bytes | None = None
    edited: content_pb2.Content | None = None
    offered_as: str | None = None
    changes: Sequence[RowChange] = ()
    history: bool = False
    traceparent: str = ""


def may_be_own(came: Incoming) -> bool:
    """Whether the account may have written it itself: of a post in a channel nobody says who did."""
    return came.from_account or is_channel(came.chat)


NETWORK_ID = "3EB0"
"""How the network's ids of our messages begin."""


def network_id_of(message: UUID) -> str:
    """The id that the network knows our message by: fixed before the first attempt, so that a resend is
    recognised.
    """
    return NETWORK_ID + message.hex.upper()


def message_of(network_id: str) -> UUID | None:
    """Our message behind a network id; None when the id is not one of ours."""
    if len(network_id) != 36 or not network_id.startswith(NETWORK_ID):
        return None
    try:
        return UUID(bytes.fromhex(network_id[4:]))
    except ValueError:
        return None
