"""What a node may run, instant by instant."""

from __future__ import annotations

import math

import pytest

from mesh_core.ownership.participant.keeper import Keeper, Phase, Tenure, Timings, may_run

TIMINGS = Timings()
LEASE = 77


def running_keeper(*, etcd_sent: float = 0.0, pg_sent: float = 0.0) -> tuple[Keeper, Tenure]:
    """A keeper that runs shard 5 at epoch 9, with both authorities heard at the given instants."""
    keeper = Keeper(TIMINGS)
    keeper.lease_granted(LEASE, etcd_sent)
    keeper.beat_answered(pg_sent)
    tenure = Tenure(shard=5, claim=1, revision=10, lease=LEASE, phase=Phase.RUNNING, epoch=9)
    keeper.tenures[5] = tenure
    return keeper, tenure


@pytest.mark.parametrize(
    ("held", "counts_etcd", "counts_pg", "expected"),
    [
        (False, False, False, False),
        (False, False, True, False),
        (False, True, False, False),
        (False, True, True, False),
        (True, False, False, False),
        (True, False, True, True),
        (True, True, False, True),
        (True, True, True, True),
    ],
)
def test_what_is_held_may_run_while_either_authority_counts(
    held: bool, counts_etcd: bool, counts_pg: bool, expected: bool
) -> None:
    assert may_run(held=held, counts_etcd=counts_etcd, counts_pg=counts_pg) is expected


def test_a_silent_postgres_does_not_stop_a_shard_whose_key_is_good() -> None:
    keeper, _ = running_keeper(etcd_sent=100.0, pg_sent=0.0)
    assert keeper.epoch(5, 105.9) == 9
    assert keeper.epoch(5, 106.0) is None


def test_a_silent_etcd_does_not_stop_a_shard_while_beats_are_answered() -> None:
    keeper, _ = running_keeper(etcd_sent=0.0, pg_sent=100.0)
    assert keeper.epoch(5, 105.9) == 9
    assert keeper.epoch(5, 106.0) is None


def test_a_key_confirmed_under_an_earlier_lease_does_not_count() -> None:
    keeper, _ = running_keeper(pg_sent=0.0)
    keeper.lease_granted(LEASE + 1, 100.0)
    assert keeper.epoch(5, 101.0) is None


def test_a_new_lease_counts_for_a_shard_once_its_key_is_confirmed_under_it() -> None:
    keeper, tenure = running_keeper(pg_sent=98.0)
    keeper.lease_granted(LEASE + 1, 100.0)
    tenure.lease = LEASE + 1
    assert keeper.epoch(5, 105.9) == 9


def test_a_refused_beat_ends_what_postgres_vouched_for_and_no_later_answer_revives_it() -> None:
    keeper, _ = running_keeper(etcd_sent=0.0, pg_sent=100.0)
    keeper.beat_refused()
    keeper.beat_answered(101.0)
    assert keeper.epoch(5, 101.0) is None


def test_deadlines_count_from_sending_so_a_late_answer_gives_less_time() -> None:
    keeper, _ = running_keeper(etcd_sent=0.0, pg_sent=0.0)
    keeper.lease_renewed(LEASE, sent=1.0, now=5.0)
    assert keeper.epoch(5, 6.9) == 9
    assert keeper.epoch(5, 7.0) is None


def test_an_answer_about_an_earlier_lease_changes_nothing() -> None:
    keeper, _ = running_keeper(etcd_sent=0.0, pg_sent=0.0)
    keeper.lease_renewed(LEASE - 1, sent=5.0, now=5.0)
    assert keeper.epoch(5, 6.0) is None


def test_answers_out_of_order_never_take_time_away() -> None:
    keeper, _ = running_keeper(etcd_sent=-math.inf, pg_sent=3.0)
    keeper.beat_answered(1.0)
    assert keeper.epoch(5, 8.9) == 9


def test_a_shard_past_its_deadline_is_lost_and_a_late_answer_does_not_bring_it_back() -> None:
    keeper, _ = running_keeper()
    assert keeper.drop(6.0).lost == [5]
    keeper.lease_renewed(LEASE, sent=5.9, now=6.0)
    keeper.beat_answered(5.9)
    assert keeper.epoch(5, 6.0) is None


def test_only_shards_past_their_own_deadline_are_dropped() -> None:
    keeper, _ = running_keeper(etcd_sent=3.0, pg_sent=0.0)
    keeper.tenures[6] = Tenure(shard=6, claim=2, revision=11, lease=0, phase=Phase.RUNNING, epoch=2)
    assert keeper.drop(6.5).lost == [6]
    assert keeper.running() == {5: 9}


def test_a_claim_that_does_not_run_yet_is_forgotten_with_the_etcd_deadline() -> None:
    keeper, _ = running_keeper(etcd_sent=0.0, pg_sent=100.0)
    taken = Tenure(shard=8, claim=3, revision=12, lease=LEASE, phase=Phase.TAKEN, epoch=4)
    keeper.tenures[8] = taken
    assert keeper.drop(6.0).forgotten == [taken]
    assert 8 not in keeper.tenures


def test_a_lost_lease_ends_claims_and_leaves_running_shards_to_postgres() -> None:
    keeper, _ = running_keeper(etcd_sent=0.0, pg_sent=0.0)
    claimed = Tenure(shard=8, claim=3, revision=12, lease=LEASE)
    keeper.tenures[8] = claimed
    assert keeper.lease_lost() == [claimed]
    assert keeper.epoch(5, 1.0) == 9


def test_a_shard_being_handed_off_may_finish_its_work_and_admits_no_more() -> None:
    keeper, tenure = running_keeper()
    tenure.phase = Phase.STOPPING
    assert keeper.epoch(5, 1.0) == 9
    assert not keeper.admits(5, 1.0)
    tenure.phase = Phase.STOPPED
    assert keeper.epoch(5, 1.0) is None


def test_new_work_is_admitted_until_the_soft_deadline_only() -> None:
    keeper, _ = running_keeper(etcd_sent=0.0, pg_sent=1.0)
    assert keeper.admits(5, 5.4)
    assert not keeper.admits(5, 5.5)
    assert keeper.epoch(5, 5.5) == 9


def test_a_lease_is_unbroken_after_a_ttl_without_a_gap() -> None:
    keeper = Keeper(TIMINGS)
    keeper.lease_granted(LEASE, 0.0)
    for beat in range(1, 6):
        keeper.lease_renewed(LEASE, sent=beat * 1.5, now=beat * 1.5)
    assert not keeper.unbroken(6.9)
    assert keeper.unbroken(7.6)


def test_a_gap_in_the_lease_starts_the_count_again() -> None:
    keeper = Keeper(TIMINGS)
    keeper.lease_granted(LEASE, 0.0)
    keeper.lease_renewed(LEASE, sent=6.5, now=6.6)
    assert not keeper.unbroken(8.0)
    assert keeper.unbroken(13.5) is False  # silent for longer than the soft deadline
    keeper.lease_renewed(LEASE, sent=12.0, now=12.1)
    keeper.lease_renewed(LEASE, sent=13.4, now=13.5)
    assert keeper.unbroken(13.5)


def test_the_next_drop_is_the_earliest_instant_any_held_shard_can_be_lost() -> None:
    keeper, _ = running_keeper(etcd_sent=3.0, pg_sent=1.0)
    assert keeper.next_drop() == 9.0
    keeper.tenures[6] = Tenure(shard=6, claim=2, revision=11, lease=0, phase=Phase.RUNNING, epoch=2)
    assert keeper.next_drop() == 7.0
    keeper.tenures.clear()
    assert keeper.next_drop() == math.inf


@pytest.mark.parametrize(
    ("holds", "etcd_sent", "pg_sent", "says"),
    [
        (True, 0.0, 0.0, ""),
        (False, 100.0, 100.0, ""),
        (False, 0.0, 100.0, "it holds no shards: its lease is lost, etcd does not answer"),
        (False, 100.0, 0.0, "it holds no shards and can take none: Postgres does not answer"),
    ],
    ids=["what is held goes on", "a spare waits", "no lease", "no fence"],
)
def test_a_node_is_ready_while_it_holds_shards_or_may_take_some(
    holds: bool, etcd_sent: float, pg_sent: float, says: str
) -> None:
    keeper, _ = running_keeper(etcd_sent=etcd_sent, pg_sent=pg_sent)
    if not holds:
        keeper.tenures.clear()
    assert keeper.unready(101.0) == says
