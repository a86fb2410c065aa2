"""The table of a session's states."""

from __future__ import annotations

import pytest

from mesh_session_node.account.state import SessionEvent as On
from mesh_session_node.account.state import transition
from sessionmesh.v1 import session_pb2 as pb

NEW, PAIRING, CONNECTING = pb.SESSION_STATE_NEW, pb.SESSION_STATE_PAIRING, pb.SESSION_STATE_CONNECTING
CONNECTED, BACKOFF, PAUSED = pb.SESSION_STATE_CONNECTED, pb.SESSION_STATE_BACKOFF, pb.SESSION_STATE_PAUSED
LOGGED_OUT, CONFLICT, BANNED = pb.SESSION_STATE_LOGGED_OUT, pb.SESSION_STATE_CONFLICT, pb.SESSION_STATE_BANNED

TABLE = [
    (NEW, On.PAIRING_BEGUN, PAIRING, pb.SESSION_CAUSE_REQUESTED),
    (LOGGED_OUT, On.PAIRING_BEGUN, PAIRING, pb.SESSION_CAUSE_REQUESTED),
    (BANNED, On.PAIRING_BEGUN, PAIRING, pb.SESSION_CAUSE_REQUESTED),
    (PAIRING, On.PAIRED, CONNECTING, pb.SESSION_CAUSE_PAIRED),
    (PAIRING, On.PAIRING_TIMED_OUT, NEW, pb.SESSION_CAUSE_PAIRING_TIMED_OUT),
    (PAIRING, On.PAIRING_STOPPED, NEW, pb.SESSION_CAUSE_UNSPECIFIED),
    (PAIRING, On.ACQUIRED, NEW, pb.SESSION_CAUSE_MOVED),
    (CONNECTING, On.LOGGED_IN, CONNECTED, pb.SESSION_CAUSE_LOGGED_IN),
    (CONNECTING, On.CONNECT_FAILED, BACKOFF, pb.SESSION_CAUSE_CONNECT_FAILED),
    (CONNECTING, On.LOGIN_REFUSED, BACKOFF, pb.SESSION_CAUSE_LOGIN_REFUSED),
    (CONNECTING, On.CONNECTION_LOST, BACKOFF, pb.SESSION_CAUSE_CONNECTION_LOST),
    (CONNECTED, On.CONNECTION_LOST, BACKOFF, pb.SESSION_CAUSE_CONNECTION_LOST),
    (CONNECTED, On.KEEPALIVE_TIMED_OUT, BACKOFF, pb.SESSION_CAUSE_KEEPALIVE_TIMED_OUT),
    (CONNECTED, On.QUARANTINED, BACKOFF, pb.SESSION_CAUSE_QUARANTINED),
    (CONNECTED, On.REPLACED, CONFLICT, pb.SESSION_CAUSE_REPLACED),
    (CONNECTED, On.LOGGED_OUT, LOGGED_OUT, pb.SESSION_CAUSE_LOGGED_OUT),
    (CONNECTED, On.BANNED, BANNED, pb.SESSION_CAUSE_BANNED),
    (CONNECTED, On.ACQUIRED, CONNECTING, pb.SESSION_CAUSE_MOVED),
    (BACKOFF, On.RETRY_DUE, CONNECTING, pb.SESSION_CAUSE_UNSPECIFIED),
    (BACKOFF, On.ACQUIRED, CONNECTING, pb.SESSION_CAUSE_MOVED),
    (BACKOFF, On.CONNECT_REQUESTED, CONNECTING, pb.SESSION_CAUSE_REQUESTED),
    (BACKOFF, On.DISCONNECT_REQUESTED, PAUSED, pb.SESSION_CAUSE_REQUESTED),
    (PAUSED, On.CONNECT_REQUESTED, CONNECTING, pb.SESSION_CAUSE_REQUESTED),
    (PAUSED, On.LOGOUT_REQUESTED, LOGGED_OUT, pb.SESSION_CAUSE_REQUESTED),
    (CONFLICT, On.CONNECT_REQUESTED, CONNECTING, pb.SESSION_CAUSE_REQUESTED),
    (CONFLICT, On.DISCONNECT_REQUESTED, PAUSED, pb.SESSION_CAUSE_REQUESTED),
]


@pytest.mark.parametrize(("state", "event", "to", "cause"), TABLE)
def test_an_event_leads_to_a_state_with_its_cause(state: int, event: On, to: int, cause: int) -> None:
    assert transition(pb.SessionState.ValueType(state), event) == (to, cause)


@pytest.mark.parametrize("state", [PAUSED, CONFLICT, BANNED, LOGGED_OUT, NEW])
def test_a_session_that_rests_is_not_woken_by_a_move(state: int) -> None:
    assert transition(pb.SessionState.ValueType(state), On.ACQUIRED) is None


@pytest.mark.parametrize("state", [NEW, LOGGED_OUT, BANNED])
@pytest.mark.parametrize("event", [On.CONNECT_REQUESTED, On.RETRY_DUE, On.LOGGED_IN])
def test_an_unpaired_session_never_connects(state: int, event: On) -> None:
    assert transition(pb.SessionState.ValueType(state), event) is None


def test_a_conflict_does_not_end_by_itself() -> None:
    ways = {event for event in On if transition(CONFLICT, event) is not None}
    assert ways == {
        On.CONNECT_REQUESTED,
        On.DISCONNECT_REQUESTED,
        On.LOGOUT_REQUESTED,
        On.LOGGED_OUT,
        On.BANNED,
    }
