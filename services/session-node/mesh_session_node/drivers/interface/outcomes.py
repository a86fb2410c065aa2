"""What a network answers: why a connection ended, why a message was refused, and what became of one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from mesh_core.validation import stored_text
from mesh_session_node.drivers.interface.content import Identity

MAX_DETAIL = 1024
"""Characters of what the network says for people to read; more is cut."""
MAX_RETRY_SECONDS = 86_400.0
"""Longer than this no network is believed to want to be left alone."""


class End(Enum):
    """Why a connection has ended, or could not begin."""

    LOST = auto()
    """The connection broke, or the network cannot be reached: connect again."""
    REFUSED = auto()
    """The network takes no login at the moment: connect again."""
    REPLACED = auto()
    """Another login of the same account took its place."""
    LOGGED_OUT = auto()
    """The pairing has ended."""
    BANNED = auto()
    """The network has banned the account; its pairing has ended too."""
    CLIENT_EXPIRED = auto()
    """The network takes this version of the client no more: nobody's logins succeed until it is updated."""
    STATE_UNUSABLE = auto()
    """What is stored of the account cannot be used: it must be paired again."""
    CARRIER_GONE = auto()
    """What carried the connection has ended, which is nobody's fault: connect again at once."""


class ConnectionEnded(Exception):
    """There is no connection, or none any more. `retry_after` is in seconds; 0 where the network named no
    time.
    """

    def __init__(self, end: End, detail: str = "", retry_after: float = 0.0) -> None:
        detail = stored_text(detail, MAX_DETAIL)
        super().__init__(f"{end.name}: {detail}" if detail else end.name)
        self.end = end
        self.detail = detail
        self.retry_after = bounded_seconds(retry_after)


class PairingRefused(Exception):
    """The network refuses to pair; the text is the network's."""

    def __init__(self, detail: str) -> None:
        super().__init__(stored_text(detail, MAX_DETAIL))


class BlobUnavailable(Exception):
    """The network does not have the file, or refuses to take it; trying again does not help. `too_large`: it
    is larger than the network allows.
    """

    def __init__(self, detail: str, *, too_large: bool = False) -> None:
        super().__init__(detail)
        self.too_large = too_large


class Failure(Enum):
    """Why the network refused a message."""

    UNKNOWN_RECIPIENT = auto()
    NOT_A_MEMBER = auto()
    BLOCKED = auto()
    """The recipient has blocked the account."""
    CONTENT = auto()
    RATE_LIMITED = auto()
    RATCHET = auto()
    """It was encrypted with a ratchet position that the network does not accept: sending it again with a
    later one helps.
    """
    BLOB_GONE = auto()
    """The network no longer has its file: it must be uploaded again."""
    NOT_SENT = auto()
    """It did not leave, or nobody knows whether it did: it is sent again under the same id."""
    RESTRICTED = auto()
    """The network restricts the account."""
    WINDOW_CLOSED = auto()
    """The recipient has not written for too long: only templates may be sent."""
    TEMPLATE = auto()
    FREQUENCY_CAPPED = auto()
    """The recipient gets too many messages of this kind."""
    PAYMENT = auto()
    RECIPIENT_INCAPABLE = auto()
    """The recipient's app cannot show it."""
    OTHER = auto()


class Refusal(Enum):
    """Why the network did not do what the account asked for, other than to take a message."""

    UNKNOWN_MESSAGE = auto()
    UNKNOWN_CHAT = auto()
    """There is no such group, channel or community, or the account does not see it."""
    UNKNOWN_PERSON = auto()
    NOT_A_MEMBER = auto()
    NOT_AN_ADMIN = auto()
    NOT_ALLOWED_BY_PERSON = auto()
    """The person's privacy settings, or a block, do not allow it."""
    FULL = auto()
    INVITE_ENDED = auto()
    TOO_LATE = auto()
    RESTRICTED = auto()
    """The network restricts the account."""
    RATE_LIMITED = auto()
    OTHER = auto()
    """Anything else; the network's words say it."""


class Refused(Exception):
    """The network did not do it, and nothing has changed. The text is the network's; `retry_after` is in
    seconds, 0 where it named no time.
    """

    def __init__(self, refusal: Refusal, detail: str = "", retry_after: float = 0.0) -> None:
        super().__init__(stored_text(detail, MAX_DETAIL))
        self.refusal = refusal
        self.retry_after = bounded_seconds(retry_after)


class Receipt(Enum):
    """What became of a message at its recipient."""

    DELIVERED = auto()
    READ = auto()
    PLAYED = auto()


def bounded_seconds(seconds: float) -> float:
    """How long the network wants to be left alone, within reason."""
    return min(max(seconds, 0.0), MAX_RETRY_SECONDS) if math.isfinite(seconds) else 0.0


MAX_MEMBERS = 1_024
"""Members that are told of at once; drivers cut longer lists into several."""


@dataclass(frozen=True, slots=True)
class MemberReceipts:
    """Members of a group, or people who see a post, for whom `receipt` holds of one message.

    `members` are their addresses, `times` when it happened, in microseconds since the epoch, one for each of
    them. `identities` says by address who they are, of those whom the connection was not told of before.
    """

    network_id: str
    receipt: Receipt
    members: Sequence[str]
    times: Sequence[int]
    identities: Mapping[str, Identity]
