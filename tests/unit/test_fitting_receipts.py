"""Receipts of many members that a network tells: bounded, and each part made fit."""

from __future__ import annotations

import time

from mesh_session_node.drivers.interface.content import Identity
from mesh_session_node.drivers.interface.outcomes import MAX_MEMBERS, MemberReceipts, Receipt
from mesh_session_node.inbound.fitting_receipts import FitAddresses, fit_member_receipts

ANN, BOB = "phone:+4915112345678", "hidden:7"


def told(members: list[str], times: list[int], ann: Identity | None = None) -> MemberReceipts:
    return MemberReceipts("M1", Receipt.READ, members, times, {} if ann is None else {ANN: ann})


def test_what_is_fit_stays_as_it_is() -> None:
    one = told([ANN, BOB], [5, 6], ann=Identity(phone="+4915112345678", hidden_id="8"))
    assert fit_member_receipts(one) == one


def test_a_member_without_a_valid_address_is_somebody_who_cannot_be_written_to() -> None:
    fit = fit_member_receipts(told([ANN, "phone:nobody\0"], [5, 6]))
    assert fit.members[0] == ANN
    assert fit.members[1].startswith("hidden:unfit-")


def test_of_too_many_members_some_are_told() -> None:
    members = [f"user:{number}" for number in range(MAX_MEMBERS + 5)]
    fit = fit_member_receipts(told(members, [1] * len(members)))
    assert (len(fit.members), len(fit.times)) == (MAX_MEMBERS, MAX_MEMBERS)


def test_times_that_are_missing_or_of_no_clock_are_now() -> None:
    before = time.time_ns() // 1000
    fit = fit_member_receipts(told([ANN, BOB, "user:1"], [5, 1 << 62]))
    assert fit.times[0] == 5
    assert all(at >= before for at in fit.times[1:])


def test_identities_of_others_are_left_out_and_names_of_no_form_taken_away() -> None:
    assert fit_member_receipts(told([BOB], [5], ann=Identity(hidden_id="8"))).identities == {}
    fit = fit_member_receipts(told([ANN], [5], ann=Identity(phone="no number", hidden_id="8")))
    assert fit.identities == {ANN: Identity(hidden_id="8")}


def test_addresses_are_remembered_and_forgotten_when_they_are_too_many() -> None:
    fit = FitAddresses(most=2)
    assert fit.all_fit(["user:1", "user:2", "user:3"])
    assert fit.all_fit(["user:1", "user:3"])
    assert not fit.all_fit(["user:1", "user:\0"])
