"""How the benchmark of neighbours judges what a bystander noticed."""

from __future__ import annotations

import pytest

from bench.fairness.bystander import DELIVERED, QUEUED, Hook, Noticed, Read
from bench.fairness.judging import Noticing
from bench.fairness.turns import Turn
from bench.mesh.operator import NotMeasured
from bench.mesh.steady import Call
from bench.mesh.window import Window

TURN = Turn(quiet=Window(0.0, 10.0), attacked=Window(20.0, 30.0))


def sent(message_id: str, due: float, took: float, error: str = "") -> Call:
    return Call("acc_1", message_id, "phone:+491", due, due, due + took, error, message_id, "", 1.0)


def noticing(
    sends: list[Call] | None = None, reads: list[Read] | None = None, hooks: list[Hook] | None = None
) -> Noticing:
    return Noticing(Noticed(sends or [], reads or [], hooks or []))


def test_an_attack_is_compared_with_the_quiet_before_it() -> None:
    noticed = noticing([sent("a", 1.0, 0.25), sent("b", 15.0, 9.0), sent("c", 21.0, 0.5)])
    assert noticed.ratios({"attack": [TURN]}, noticed.sends)["attack"].value == 2.0


def test_a_webhook_counts_when_its_event_is_committed_though_it_comes_after_the_attack() -> None:
    hooks = [Hook("a", QUEUED, 9.5, 10.5), Hook("b", QUEUED, 29.0, 33.0)]
    noticed = noticing(hooks=hooks)
    assert noticed.ratios({"attack": [TURN]}, noticed.hooks)["attack"].value == 4.0


def test_every_answered_message_has_two_webhooks_and_one_that_failed_none() -> None:
    sends = [sent("a", 1.0, 0.1), sent("b", 2.0, 0.1), sent("", 3.0, 0.1, error="UNAVAILABLE: ")]
    noticed = noticing(sends, hooks=[Hook("a", QUEUED, 1.0, 1.1), Hook("a", DELIVERED, 1.2, 1.3)])
    assert (noticed.webhooks_due, noticed.webhooks_missing) == (4, 2)


def test_calls_that_failed_are_told_with_their_reason_and_took_as_long_as_they_did() -> None:
    reads = [Read(1.0, 1.5, ""), Read(21.0, 31.0, "DEADLINE_EXCEEDED: ")]
    noticed = noticing(reads=reads)
    assert noticed.failures == ["DEADLINE_EXCEEDED: "]
    assert noticed.ratios({"attack": [TURN]}, noticed.reads)["attack"].value == 20.0


def test_a_stretch_without_calls_measures_nothing() -> None:
    noticed = noticing([sent("a", 1.0, 0.1)])
    with pytest.raises(NotMeasured):
        noticed.ratios({"attack": [TURN]}, noticed.sends)
