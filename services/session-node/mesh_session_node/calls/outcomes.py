"""What callers are told of what the network did not do: the one place where its refusals become errors."""

from __future__ import annotations

from collections.abc import Mapping

from mesh_core.errors import FailedPrecondition, MeshError, NotFound, ResourceExhausted
from mesh_session_node.drivers.interface.outcomes import Refusal, Refused


def error_of(refused: Refused, what: str) -> MeshError:
    """The error for a refusal; `what` names what the call was about, such as a message or a group."""
    refusal, detail = refused.refusal, str(refused)
    if (resource := _NOT_FOUND.get(refusal)) is not None:
        return NotFound(resource, what)
    if refusal is Refusal.RATE_LIMITED:
        return ResourceExhausted(
            detail or "the network takes no more of this at the moment",
            "RATE_LIMITED",
            quota="the network's",
            retry_after=refused.retry_after or _LEAST_WAIT_SECONDS,
        )
    reason, words = _REASONS[refusal]
    return FailedPrecondition(f"{words}: {detail}" if detail else words, reason)


def lacking(what: str) -> FailedPrecondition:
    """The error for what the account's network does not have, in words, or the name of a kind of content."""
    return FailedPrecondition(f"the account's network has no {what}", "UNSUPPORTED_BY_NETWORK")


_NOT_FOUND: Mapping[Refusal, str] = {Refusal.UNKNOWN_MESSAGE: "message", Refusal.UNKNOWN_CHAT: "chat"}
_REASONS: Mapping[Refusal, tuple[str, str]] = {
    Refusal.UNKNOWN_PERSON: ("UNKNOWN_PERSON", "the network does not know the person"),
    Refusal.NOT_A_MEMBER: ("NOT_A_MEMBER", "the account is not a member"),
    Refusal.NOT_AN_ADMIN: ("NOT_AN_ADMIN", "only an administrator may do this"),
    Refusal.NOT_ALLOWED_BY_PERSON: ("NOT_ALLOWED_BY_PERSON", "the person does not allow it"),
    Refusal.FULL: ("GROUP_FULL", "there are as many members as the network allows"),
    Refusal.INVITE_ENDED: ("INVITE_ENDED", "the invitation has ended"),
    Refusal.TOO_LATE: ("TOO_LATE", "it is too late for this"),
    Refusal.RESTRICTED: ("RESTRICTED", "the network restricts the account"),
    Refusal.OTHER: ("REFUSED_BY_NETWORK", "the network refuses it"),
}
_LEAST_WAIT_SECONDS = 1.0
