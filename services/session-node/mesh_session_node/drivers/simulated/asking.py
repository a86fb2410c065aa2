"""Questions by number, whose answers or refusals follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mesh_session_node.drivers.interface.outcomes import Refusal, Refused
from sessionmesh.simnet.v1 import wire_pb2 as wire


class Conflict(Refused):
    """Another device of the account was faster."""


@dataclass(slots=True)
class AppStateRead:
    """How far a connection has read what the account's devices have in common."""

    version: int = 0


class Asking:
    """What the actions need of the link."""

    __slots__ = ()
    app_state: AppStateRead

    async def ask(self, query: wire.Query) -> wire.Answer:
        """The answer to a question. Raises `Refused`, `ConnectionEnded`, `TimeoutError`."""
        raise NotImplementedError

    def write(self, frame: wire.Frame) -> None:
        """Send a frame."""
        raise NotImplementedError

    async def change_app_state(self, name: str, value: bytes) -> None:
        """Change what the account's devices have in common: a log which every device reads up to some
        version. A change upon an older version than the network's is refused; then this device reads on, and
        tries again. What others changed it hears of by notices, too. Raises as `ask`.
        """
        for _ in range(_TRIES):
            change = wire.ChangeAppState(name=name, value=value, base_version=self.app_state.version)
            try:
                answer = await self.ask(wire.Query(change_app_state=change))
            except Conflict:
                since = wire.FetchAppState(after_version=self.app_state.version)
                answer = await self.ask(wire.Query(fetch_app_state=since))
                self.app_state.version = answer.app_state.version
            else:
                self.app_state.version = answer.app_state.version
                return
        raise Refused(Refusal.RATE_LIMITED, "other devices of the account were always faster", 1.0)


def refused(error: wire.QueryError) -> Refused:
    """What the network says of a question that it does not answer."""
    if error.reason == wire.QUERY_ERROR_REASON_CONFLICT:
        return Conflict(Refusal.RATE_LIMITED, error.message)
    return Refused(refusal_of(error.reason), error.message, error.retry_after_ms / 1000)


def refusal_of(reason: wire.QueryErrorReason.ValueType) -> Refusal:
    """Why something was not done."""
    return _REFUSALS.get(reason, Refusal.OTHER)


_REFUSALS: Mapping[wire.QueryErrorReason.ValueType, Refusal] = {
    wire.QUERY_ERROR_REASON_NOT_FOUND: Refusal.UNKNOWN_CHAT,
    wire.QUERY_ERROR_REASON_FORBIDDEN: Refusal.NOT_AN_ADMIN,
    wire.QUERY_ERROR_REASON_NOT_A_MEMBER: Refusal.NOT_A_MEMBER,
    wire.QUERY_ERROR_REASON_NOT_AN_ADMIN: Refusal.NOT_AN_ADMIN,
    wire.QUERY_ERROR_REASON_TOO_LATE: Refusal.TOO_LATE,
    wire.QUERY_ERROR_REASON_FULL: Refusal.FULL,
    wire.QUERY_ERROR_REASON_INVITE_ENDED: Refusal.INVITE_ENDED,
    wire.QUERY_ERROR_REASON_UNKNOWN_PERSON: Refusal.UNKNOWN_PERSON,
    wire.QUERY_ERROR_REASON_NOT_ALLOWED_BY_PERSON: Refusal.NOT_ALLOWED_BY_PERSON,
    wire.QUERY_ERROR_REASON_RATE_LIMITED: Refusal.RATE_LIMITED,
    wire.QUERY_ERROR_REASON_RESTRICTED: Refusal.RESTRICTED,
    wire.QUERY_ERROR_REASON_UNKNOWN_MESSAGE: Refusal.UNKNOWN_MESSAGE,
}
_TRIES = 5
