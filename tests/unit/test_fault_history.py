"""The checker of the database's history finds every kind of violation, and none in a good history."""

from __future__ import annotations

import pytest

from sessionmesh.v1 import message_pb2
from tests.faults.fleet.history import Change, Kind, Outcome, check_changes, check_outcome

QUEUED, SENDING, SENT, DELIVERED = 10, 20, 30, 40


def fence(holder: str, epoch: int, *, released: bool = False, shard: int = 7) -> Change:
    return Change(Kind.FENCE, shard, epoch=epoch, holder=holder, released=released)


def row(kind: Kind, epoch: int, key: str = "k", *, shard: int = 7) -> Change:
    return Change(kind, shard, key, epoch, status=QUEUED if kind is Kind.MESSAGE else 0)


def status(before: int, after: int, key: str = "k") -> Change:
    return Change(Kind.STATUS, 7, key, 1, before=before, status=after)


def dead(incarnation: str) -> Change:
    return Change(Kind.EXPIRED, key=incarnation)


def test_a_good_history_has_no_findings() -> None:
    history = [
        fence("a", 1),
        row(Kind.MESSAGE, 1, "m1"),
        row(Kind.EVENT, 1),
        status(QUEUED, SENT, "m1"),
        fence("a", 1, released=True),
        fence("b", 2),
        row(Kind.SESSION, 2),
        status(SENT, DELIVERED, "m1"),
        dead("b"),
        fence("c", 3),
        row(Kind.CREDENTIAL, 3),
    ]
    assert check_changes(history) == []


def test_an_epoch_that_falls_is_found() -> None:
    [finding] = check_changes(
        [fence("a", 1), fence("a", 1, released=True), fence("b", 2, released=True), fence("c", 1)]
    )
    assert "from epoch 2 to 1" in finding


def test_an_epoch_that_skips_is_found() -> None:
    [finding] = check_changes([fence("a", 2)])
    assert "from epoch 0 to 2" in finding


def test_a_shard_that_changes_hands_without_a_new_epoch_is_found() -> None:
    [finding] = check_changes([fence("a", 1), fence("a", 1, released=True), fence("b", 1)])
    assert "without a new epoch" in finding


def test_a_released_tenure_that_goes_on_is_found() -> None:
    [finding] = check_changes([fence("a", 1), fence("a", 1, released=True), fence("a", 1)])
    assert "which was released" in finding


def test_a_shard_taken_from_a_holder_that_lives_is_found() -> None:
    [finding] = check_changes([fence("a", 1), fence("b", 2)])
    assert "taken by b from a, which lived" in finding


def test_a_holder_may_take_its_own_shard_anew() -> None:
    assert check_changes([fence("a", 1), fence("a", 2)]) == []


@pytest.mark.parametrize("kind", [Kind.MESSAGE, Kind.EVENT, Kind.SESSION, Kind.CREDENTIAL])
def test_a_row_of_an_older_epoch_is_found(kind: Kind) -> None:
    [finding] = check_changes([fence("a", 1), dead("a"), fence("b", 2), row(kind, 1)])
    assert "was written at epoch 1, the shard's was 2" in finding


def test_a_row_of_an_epoch_that_nobody_took_is_found() -> None:
    [finding] = check_changes([fence("a", 1), row(Kind.EVENT, 2)])
    assert "at epoch 2, the shard's was 1" in finding


def test_a_row_after_the_release_is_found() -> None:
    [finding] = check_changes([fence("a", 1), fence("a", 1, released=True), row(Kind.EVENT, 1)])
    assert "which was released" in finding


def test_a_row_of_a_holder_that_was_judged_dead_is_found() -> None:
    [finding] = check_changes([fence("a", 1), dead("a"), row(Kind.EVENT, 1)])
    assert "was judged dead" in finding


def test_shards_are_told_apart() -> None:
    history = [fence("a", 1), fence("b", 1, shard=8), row(Kind.EVENT, 1), row(Kind.EVENT, 1, shard=8)]
    assert check_changes(history) == []


def test_a_message_stored_twice_is_found() -> None:
    [finding] = check_changes([fence("a", 1), row(Kind.MESSAGE, 1), row(Kind.MESSAGE, 1)])
    assert "stored twice" in finding


def test_a_status_that_falls_is_found() -> None:
    [finding] = check_changes([status(DELIVERED, SENT)])
    assert "from status 40 to 30" in finding


def test_a_status_that_changes_from_what_it_was_not_is_found() -> None:
    [finding] = check_changes([status(QUEUED, DELIVERED), status(SENDING, SENT)])
    assert "changed from 20, and was 40" in finding


REQUEST = ("acc_1", "one")


def outcome(**changes: object) -> Outcome:
    whole: dict[str, object] = {"requests": {REQUEST: "m1"}, "statuses": {"m1": DELIVERED}, "outbox": []}
    return Outcome(**(whole | changes))  # type: ignore[arg-type] # the tests below change one field each


def test_a_good_outcome_has_no_findings() -> None:
    assert check_outcome(outcome(), {REQUEST: "m1"}) == []


def test_an_unanswered_request_may_have_been_stored() -> None:
    assert check_outcome(outcome(), {}) == []


def test_an_acknowledged_message_that_is_missing_is_found() -> None:
    findings = check_outcome(outcome(requests={}, statuses={}), {REQUEST: "m1"})
    assert any("acknowledged message m1 is not there" in finding for finding in findings)


def test_an_acknowledged_message_that_was_not_delivered_is_found() -> None:
    status = message_pb2.MESSAGE_STATUS_SENT
    [finding] = check_outcome(outcome(statuses={"m1": status}), {REQUEST: "m1"})
    assert "ended as MESSAGE_STATUS_SENT" in finding


def test_an_answer_that_names_another_message_is_found() -> None:
    statuses = {"m1": DELIVERED, "m2": DELIVERED}
    findings = check_outcome(outcome(statuses=statuses), {REQUEST: "m2"})
    assert findings[0] == f"request {REQUEST} was answered with m2, and m1 is stored"


def test_a_second_message_of_a_request_is_found() -> None:
    [finding] = check_outcome(outcome(statuses={"m1": DELIVERED, "m2": DELIVERED}), {REQUEST: "m1"})
    assert finding == "message m2 has no request"


def test_a_request_without_its_message_is_found() -> None:
    [finding] = check_outcome(outcome(statuses={}), {})
    assert finding == f"request {REQUEST} has no message"


def test_two_requests_of_one_message_are_found() -> None:
    [finding] = check_outcome(outcome(requests={REQUEST: "m1", ("acc_1", "two"): "m1"}), {})
    assert finding == "2 requests have message m1"


def test_a_message_left_in_the_outbox_is_found() -> None:
    [finding] = check_outcome(outcome(outbox=["m1"]), {})
    assert finding == "message m1 is still in the outbox"
