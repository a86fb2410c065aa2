"""A ratchet: a position is never used before it is stored, and never twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_session_node.drivers.interface.state import Reservation
from mesh_session_node.drivers.simulated.state import SimulatedState, StoredState, load_state


def state(reserved: int = 0) -> SimulatedState:
    return SimulatedState(StoredState("49170", b"secret", "+49170", "Ada", "1", reserved))


def test_a_position_that_is_not_stored_cannot_be_used() -> None:
    ratchet = state()
    reservation = ratchet.plan()
    assert reservation is not None
    with pytest.raises(RuntimeError):
        ratchet.use()
    ratchet.confirm(reservation)
    assert ratchet.use() == 0


def test_a_block_serves_many_messages() -> None:
    ratchet = state()
    asked = [ratchet.plan() for _ in range(64)]
    assert [reservation is not None for reservation in asked] == [True] + [False] * 63
    assert ratchet.plan() is not None


def test_a_reservation_that_was_not_stored_is_asked_for_again() -> None:
    ratchet = state()
    lost = ratchet.plan()
    assert lost is not None
    ratchet.drop(lost)
    assert ratchet.plan() is not None


def test_a_restored_ratchet_goes_on_far_behind_and_only_with_what_is_stored() -> None:
    ratchet = state(1000)
    ratchet.restored()
    reservation = ratchet.plan()
    assert reservation is not None
    assert ratchet.left <= 0
    ratchet.confirm(reservation)
    position = ratchet.use()
    assert position >= 1000 + 2**32
    assert load_state(reservation.state).next > position


@given(st.lists(st.sampled_from(["plan", "confirm", "drop", "use", "reserve", "move", "skip"]), max_size=200))
def test_no_position_is_used_twice_whatever_happens(steps: list[str]) -> None:
    ratchet, stored = state(), state().dump(0)
    open_reservations: list[Reservation] = []
    used: list[int] = []
    for step in steps:
        if step in ("plan", "reserve"):
            reservation = ratchet.plan() if step == "plan" else ratchet.reserve(3)
            if reservation is not None:
                open_reservations.append(reservation)
        elif step == "confirm" and open_reservations:
            reservation = open_reservations.pop(0)
            if load_state(reservation.state).next >= load_state(stored).next:
                stored = reservation.state
            ratchet.confirm(reservation)
        elif step == "drop" and open_reservations:
            ratchet.drop(open_reservations.pop(0))
        elif step == "use" and ratchet.left > 0:
            used.append(ratchet.use())
        elif step == "move":  # another node loads what is stored
            ratchet, open_reservations = load_state(stored), []
        elif step == "skip":
            ratchet.skip()
    assert used == sorted(set(used))
