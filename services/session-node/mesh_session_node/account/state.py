"""The states of a session: one function from (state, event) to (state, cause), and whom it moves."""

from __future__ import annotations

from enum import Enum, auto
from typing import Protocol, TypeAlias

from sessionmesh.v1 import session_pb2 as pb

State: TypeAlias = pb.SessionState.ValueType
Cause: TypeAlias = pb.SessionCause.ValueType


class SessionEvent(Enum):
    """What can happen to a session."""

    CONNECT_REQUESTED = auto()
    DISCONNECT_REQUESTED = auto()
    LOGOUT_REQUESTED = auto()
    RETRY_DUE = auto()
    """The time of BACKOFF is over."""
    ACQUIRED = auto()
    """Another node ran the session until now."""
    PAIRING_BEGUN = auto()
    PAIRED = auto()
    PAIRING_TIMED_OUT = auto()
    PAIRING_STOPPED = auto()
    """Refused by the network, or given up by the caller."""
    LOGGED_IN = auto()
    CONNECT_FAILED = auto()
    LOGIN_REFUSED = auto()
    CONNECTION_LOST = auto()
    KEEPALIVE_TIMED_OUT = auto()
    REPLACED = auto()
    LOGGED_OUT = auto()
    BANNED = auto()
    QUARANTINED = auto()
    """One failure too many in an hour."""
    NETWORK_FAILED = auto()
    """The network fails for most accounts: this one waits until it works again."""


UNPAIRED = frozenset(
    {
        pb.SESSION_STATE_NEW,
        pb.SESSION_STATE_PAIRING,
        pb.SESSION_STATE_LOGGED_OUT,
        pb.SESSION_STATE_BANNED,
    }
)
"""States without a pairing: nothing can be sent, not even later."""

LIVE = frozenset({pb.SESSION_STATE_CONNECTING, pb.SESSION_STATE_CONNECTED, pb.SESSION_STATE_BACKOFF})
"""States in which the session is to be online."""


class StateMachine(Protocol):
    """The session's states, as its connection follows and moves them."""

    state: State
    detail: str

    def go(self, event: SessionEvent, detail: str = "") -> bool:
        """Follow the table; False when the event means nothing now."""

    def unpaired(self, event: SessionEvent, detail: str) -> None:
        """The network has ended the pairing."""


def transition(state: State, event: SessionEvent) -> tuple[State, Cause] | None:
    """The state that `event` leads to, and its cause; None: the event means nothing in this state."""
    return _TABLE.get((state, event))


_NEW, _PAIRING, _CONNECTING = pb.SESSION_STATE_NEW, pb.SESSION_STATE_PAIRING, pb.SESSION_STATE_CONNECTING
_CONNECTED, _BACKOFF, _PAUSED = pb.SESSION_STATE_CONNECTED, pb.SESSION_STATE_BACKOFF, pb.SESSION_STATE_PAUSED
_LOGGED_OUT, _CONFLICT, _BANNED = (
    pb.SESSION_STATE_LOGGED_OUT,
    pb.SESSION_STATE_CONFLICT,
    pb.SESSION_STATE_BANNED,
)


def _table() -> dict[tuple[State, SessionEvent], tuple[State, Cause]]:
    on = SessionEvent
    table: dict[tuple[State, SessionEvent], tuple[State, Cause]] = {}

    def rule(states: tuple[State, ...], event: SessionEvent, to: State, cause: Cause) -> None:
        for state in states:
            table[state, event] = (to, cause)

    online = (_CONNECTING, _CONNECTED)
    paired = (_CONNECTING, _CONNECTED, _BACKOFF, _PAUSED, _CONFLICT)
    rule((_NEW, _LOGGED_OUT, _BANNED), on.PAIRING_BEGUN, _PAIRING, pb.SESSION_CAUSE_REQUESTED)
    rule((_PAIRING,), on.PAIRED, _CONNECTING, pb.SESSION_CAUSE_PAIRED)
    rule((_PAIRING,), on.PAIRING_TIMED_OUT, _NEW, pb.SESSION_CAUSE_PAIRING_TIMED_OUT)
    rule((_PAIRING,), on.PAIRING_STOPPED, _NEW, pb.SESSION_CAUSE_UNSPECIFIED)
    rule((_PAUSED, _CONFLICT, _BACKOFF), on.CONNECT_REQUESTED, _CONNECTING, pb.SESSION_CAUSE_REQUESTED)
    rule((*online, _BACKOFF, _CONFLICT), on.DISCONNECT_REQUESTED, _PAUSED, pb.SESSION_CAUSE_REQUESTED)
    rule(paired, on.LOGOUT_REQUESTED, _LOGGED_OUT, pb.SESSION_CAUSE_REQUESTED)
    rule((_BACKOFF,), on.RETRY_DUE, _CONNECTING, pb.SESSION_CAUSE_UNSPECIFIED)
    rule((*online, _BACKOFF), on.ACQUIRED, _CONNECTING, pb.SESSION_CAUSE_MOVED)
    rule((_PAIRING,), on.ACQUIRED, _NEW, pb.SESSION_CAUSE_MOVED)
    rule((_CONNECTING,), on.LOGGED_IN, _CONNECTED, pb.SESSION_CAUSE_LOGGED_IN)
    rule((_CONNECTING,), on.CONNECT_FAILED, _BACKOFF, pb.SESSION_CAUSE_CONNECT_FAILED)
    rule((_CONNECTING,), on.LOGIN_REFUSED, _BACKOFF, pb.SESSION_CAUSE_LOGIN_REFUSED)
    rule(online, on.CONNECTION_LOST, _BACKOFF, pb.SESSION_CAUSE_CONNECTION_LOST)
    rule((_CONNECTED,), on.KEEPALIVE_TIMED_OUT, _BACKOFF, pb.SESSION_CAUSE_KEEPALIVE_TIMED_OUT)
    rule(online, on.QUARANTINED, _BACKOFF, pb.SESSION_CAUSE_QUARANTINED)
    rule((*online, _BACKOFF), on.NETWORK_FAILED, _BACKOFF, pb.SESSION_CAUSE_NETWORK_FAILING)
    rule(online, on.REPLACED, _CONFLICT, pb.SESSION_CAUSE_REPLACED)
    rule(paired, on.LOGGED_OUT, _LOGGED_OUT, pb.SESSION_CAUSE_LOGGED_OUT)
    rule(paired, on.BANNED, _BANNED, pb.SESSION_CAUSE_BANNED)
    return table


_TABLE = _table()
