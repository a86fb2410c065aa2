"""Limits of calls: what a process grants by itself, what it asks for, and what it does without an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import pytest

from mesh_core import ids
from mesh_core.errors import MeshError, ResourceExhausted, Unavailable
from mesh_core.ids import Prefix
from mesh_core.rpc.auth import Identity, Role
from mesh_core.rpc.auth.identity import BOOTSTRAP_KEY_ID
from mesh_core.rpc.limits import CallLimiter, Counted
from mesh_core.rpc.limits.bucket import PARTS, Bucket
from mesh_core.rpc.limits.shared import Asked, Granted
from mesh_core.settings import CallLimit, LimitsSettings
from sessionmesh.v1 import authorization_pb2 as proto

ACCOUNT = ids.new_id(Prefix.ACCOUNT)
OTHER_ACCOUNT = ids.new_id(Prefix.ACCOUNT)
MESSAGE, OPERATION, QUERY = (
    proto.CALL_CLASS_MESSAGE,
    proto.CALL_CLASS_INSTANCE_OPERATION,
    proto.CALL_CLASS_QUERY,
)


class MemoryCounts:
    """Limits of which nothing comes back: what is left of each, all rounds, and whether it answers."""

    def __init__(self) -> None:
        self.left: dict[str, int] = {}
        self.rounds: list[list[Asked]] = []
        self.available = True
        self.gate: Callable[[], Awaitable[object]] | None = None

    async def take(self, asked: Sequence[Asked]) -> list[Granted] | None:
        self.rounds.append([*asked])
        if self.gate is not None:
            await self.gate()
        if not self.available:
            return None
        answers = []
        for one in asked:
            left = self.left.get(one.bucket.redis_key, one.bucket.calls) - one.untold
            granted = max(min(one.want, left), 0)
            self.left[one.bucket.redis_key] = left - granted
            answers.append(Granted(granted, 7.0 if granted < one.need else 0.0))
        return answers


@pytest.fixture
def counts() -> MemoryCounts:
    return MemoryCounts()


def identity(calls_per_second: int | None = None, tenant: bool = True) -> Identity:
    role = Role.TENANT if tenant else Role.ADMIN
    key = ids.new_id(Prefix.KEY)
    tenant_id = ids.new_uuid() if tenant else None
    return Identity(role, tenant_id, key, frozenset(), None, calls_per_second)


def by(
    caller: Identity, call_class: proto.CallClass.ValueType = MESSAGE, source: str = "192.0.2.1"
) -> Counted:
    return Counted(caller, source, call_class)


async def passes(limiter: CallLimiter, call: Counted, account: str = ACCOUNT) -> bool:
    return await refusal(limiter, call, account) is None


async def refusal(limiter: CallLimiter, call: Counted, account: str = ACCOUNT) -> MeshError | None:
    if limiter.admit(call, account):
        return None
    try:
        await limiter.wait(call, account)
    except MeshError as refused:
        return refused
    return None


async def served(limiter: CallLimiter, call: Counted, attempts: int, account: str = ACCOUNT) -> int:
    """How many of so many calls pass."""
    return sum([await passes(limiter, call, account) for _ in range(attempts)])


@pytest.mark.parametrize("most", [1, 5, PARTS - 1, PARTS, 500, 1000])
@pytest.mark.parametrize("setting", ["account", "tenant", "key", "key_address"])
async def test_as_many_calls_pass_as_the_limit_says_and_the_next_one_does_not(
    counts: MemoryCounts, setting: str, most: int
) -> None:
    limiter = CallLimiter(LimitsSettings(**{setting: (f"message={most}/60s",)}), counts, counts)
    call = by(identity())
    assert await served(limiter, call, most) == most
    refused = await refusal(limiter, call)
    assert isinstance(refused, ResourceExhausted)
    assert refused.reason == "RATE_LIMITED"
    assert refused.retry_after == pytest.approx(7.0, abs=0.5)
    assert cast("str", refused.quota).partition(":")[0] == setting
    assert await passes(limiter, by(call.identity, QUERY)), "each class has limits of its own"


async def test_what_is_far_below_its_limits_never_asks(counts: MemoryCounts) -> None:
    limiter = CallLimiter(
        LimitsSettings(account=("message=3200/60s",), tenant=("message=6400/60s",)), counts, counts
    )
    assert await served(limiter, by(identity()), 100) == 100
    assert counts.rounds == []


async def test_a_busy_account_asks_once_for_many_calls(counts: MemoryCounts) -> None:
    limiter = CallLimiter(LimitsSettings(account=("message=3200/60s",)), counts, counts)
    assert await served(limiter, by(identity()), 3200) == 3200
    assert len(counts.rounds) == PARTS - 1


async def test_a_refused_caller_is_refused_again_without_asking(counts: MemoryCounts) -> None:
    limiter = CallLimiter(LimitsSettings(key=("message=2/60s",)), counts, counts)
    call = by(identity())
    assert await served(limiter, call, 3) == 2
    asked = len(counts.rounds)
    assert await served(limiter, call, 50) == 0
    assert len(counts.rounds) == asked


async def test_one_account_over_its_limit_is_no_concern_of_another(counts: MemoryCounts) -> None:
    limiter = CallLimiter(LimitsSettings(account=("message=2/60s",)), counts, counts)
    call = by(identity())
    assert await served(limiter, call, 5) == 2
    assert await served(limiter, call, 5, OTHER_ACCOUNT) == 2
    assert await served(limiter, by(identity()), 5) == 2, "another tenant's"


async def test_an_address_has_its_own_share_of_a_key(counts: MemoryCounts) -> None:
    limiter = CallLimiter(LimitsSettings(key_address=("message=2/60s",)), counts, counts)
    caller = identity()
    assert await served(limiter, by(caller, source="192.0.2.1"), 5) == 2
    assert await served(limiter, by(caller, source="192.0.2.2"), 5) == 2


async def test_calls_per_second_of_the_tenants_settings_counts_every_class_and_replaces_the_default(
    counts: MemoryCounts,
) -> None:
    limiter = CallLimiter(LimitsSettings(tenant=("message=1/60s", "query=1/60s")), counts, counts)
    caller = identity(calls_per_second=3)
    assert await served(limiter, by(caller), 2) == 2
    assert await served(limiter, by(caller, QUERY), 2) == 1
    assert not await passes(limiter, by(caller, OPERATION))


async def test_an_administrator_has_the_limits_of_keys_only(counts: MemoryCounts) -> None:
    settings = LimitsSettings(account=("message=1/60s",), tenant=("message=1/60s",), key=("message=4/60s",))
    assert await served(CallLimiter(settings, counts, counts), by(identity(tenant=False)), 10) == 4


async def test_the_key_of_the_settings_has_no_limits_and_works_when_nobody_counts(
    counts: MemoryCounts,
) -> None:
    settings = LimitsSettings(key=("instance_operation=1/60s",))
    bootstrap = Identity(Role.ADMIN, None, BOOTSTRAP_KEY_ID, frozenset())
    counts.available = False
    assert await served(CallLimiter(settings, counts, counts), by(bootstrap, OPERATION), 10) == 10


async def test_all_keys_of_one_question_are_in_one_slot(counts: MemoryCounts) -> None:
    settings = dict.fromkeys(("account", "tenant", "key", "key_address"), ("message=5/60s",))
    await passes(CallLimiter(LimitsSettings(**settings), counts, counts), by(identity()))
    [asked] = counts.rounds
    assert len(asked) == 4
    assert len({one.bucket.redis_key.partition("{")[2].partition("}")[0] for one in asked}) == 1


async def test_a_frame_asks_once_and_its_messages_over_a_limit_are_refused_one_by_one(
    counts: MemoryCounts,
) -> None:
    limiter = CallLimiter(
        LimitsSettings(account=("message=3/60s",), tenant=("message=100/60s",)), counts, counts
    )
    accounts = [ACCOUNT] * 5 + [OTHER_ACCOUNT] * 2
    refusals = await limiter.admit_all(by(identity()), accounts)
    assert [refused is None for refused in refusals] == [True] * 3 + [False] * 2 + [True] * 2
    assert len(counts.rounds) == 1


async def test_a_frame_larger_than_a_limit_is_served_as_far_as_the_limit_goes(counts: MemoryCounts) -> None:
    limiter = CallLimiter(LimitsSettings(tenant=("message=400/60s",)), counts, counts)
    refusals = await limiter.admit_all(by(identity()), [ACCOUNT] * 1000)
    assert refusals.count(None) == 400


async def test_many_calls_at_once_share_questions_and_none_is_refused_that_has_room(
    counts: MemoryCounts,
) -> None:
    async def hold() -> None:
        await asyncio.sleep(0)

    counts.gate = hold
    limiter = CallLimiter(LimitsSettings(account=("message=1000/60s",)), counts, counts)
    call = by(identity())
    outcomes = await asyncio.gather(*(passes(limiter, call) for _ in range(1100)))
    assert sum(outcomes) == 1000
    assert len(counts.rounds) < 10


async def test_a_caller_that_gives_up_while_it_asks_holds_up_nobody(counts: MemoryCounts) -> None:
    asked, never = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        asked.set()
        await never.wait()

    counts.gate = hold
    limiter = CallLimiter(LimitsSettings(account=("message=5/60s",)), counts, counts)
    call = by(identity())
    impatient = asyncio.create_task(passes(limiter, call))
    patient = asyncio.create_task(passes(limiter, call))
    await asked.wait()
    counts.gate = None
    impatient.cancel()
    async with asyncio.timeout(5):
        assert await patient


@pytest.mark.parametrize("most", [2, 1000])
async def test_while_nobody_counts_a_process_grants_messages_and_queries_up_to_their_limit(
    counts: MemoryCounts, most: int
) -> None:
    counts.available = False
    limits = LimitsSettings(account=(f"message={most}/600s", f"query={most}/600s"))
    limiter, caller = CallLimiter(limits, counts, counts), identity()
    for call in (by(caller), by(caller, QUERY)):
        granted = await served(limiter, call, most + 50)
        assert most <= granted <= most + most // PARTS, "and the part that it need not ask for"
        refused = await refusal(limiter, call)
        assert isinstance(refused, ResourceExhausted)
        assert refused.retry_after is not None
        assert 0 < refused.retry_after <= 600 / most
    assert counts.rounds == [], "nobody waits for what is known to be away"


async def test_what_was_over_its_limit_before_nobody_counted_is_refused_still(counts: MemoryCounts) -> None:
    limiter = CallLimiter(LimitsSettings(account=("message=5/600s",)), counts, counts)
    call = by(identity())
    assert await served(limiter, call, 6) == 5
    counts.available = False
    assert await served(limiter, call, 10) == 0
    assert await served(limiter, call, 10, OTHER_ACCOUNT) == 5


async def test_one_limit_that_is_reached_spends_nothing_of_the_others_while_nobody_counts(
    counts: MemoryCounts,
) -> None:
    counts.available = False
    limits = LimitsSettings(account=("message=2/600s",), tenant=("message=4/600s",))
    limiter, call = CallLimiter(limits, counts, counts), by(identity())
    assert await served(limiter, call, 10) == 2
    assert await served(limiter, call, 10, OTHER_ACCOUNT) == 2


async def test_what_a_process_granted_alone_is_told_when_somebody_counts_again(counts: MemoryCounts) -> None:
    limiter = CallLimiter(LimitsSettings(account=("message=10/600s",)), counts, counts)
    call = by(identity())
    counts.available = False
    assert await served(limiter, call, 4) == 4
    counts.available = True
    assert await served(limiter, call, 10) == 6
    assert [one.untold for [one] in counts.rounds] == [4, 0, 0, 0, 0, 0, 0]


async def test_while_nobody_counts_instance_operations_are_unavailable_for_a_moment(
    counts: MemoryCounts,
) -> None:
    counts.available = False
    limiter = CallLimiter(LimitsSettings(account=("instance_operation=1000/60s",)), counts, counts)
    refused = await refusal(limiter, by(identity(), OPERATION))
    assert isinstance(refused, Unavailable)
    assert (refused.reason, refused.retry_after) == ("BACKEND_UNAVAILABLE", 1.0)


async def test_instance_operations_are_asked_for_where_one_waits_longer(counts: MemoryCounts) -> None:
    patient = MemoryCounts()
    counts.available = False
    limiter = CallLimiter(LimitsSettings(account=("instance_operation=2/60s",)), counts, patient)
    assert await served(limiter, by(identity(), OPERATION), 3) == 2
    assert await served(limiter, by(identity(), QUERY), 3) == 3
    assert (len(patient.rounds), len(counts.rounds)) == (3, 0)


async def test_every_instance_operation_is_counted_at_once(counts: MemoryCounts) -> None:
    limiter = CallLimiter(LimitsSettings(account=("instance_operation=1000/60s",)), counts, counts)
    assert await served(limiter, by(identity(), OPERATION), 3) == 3
    assert [one.want for [one] in counts.rounds] == [1, 1, 1]


async def test_what_is_remembered_is_bounded(counts: MemoryCounts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh_core.rpc.limits.limiter.MAX_BUCKETS", 10)
    limiter = CallLimiter(LimitsSettings(account=("message=64/60s",)), counts, counts)
    caller = identity()
    for _ in range(100):
        assert await passes(limiter, by(caller), ids.new_id(Prefix.ACCOUNT))
    assert max(len(limiter._buckets), len(limiter._found)) <= 10


@pytest.mark.parametrize(
    "name", ["x" * 100_000, ACCOUNT[:-1] + "i", "msg" + ACCOUNT[3:]], ids=["size", "letters", "kind"]
)
async def test_what_is_no_account_id_has_no_limit_of_its_own_and_is_not_remembered(
    counts: MemoryCounts, name: str
) -> None:
    limiter = CallLimiter(LimitsSettings(account=("message=1/60s",), key=("message=6/60s",)), counts, counts)
    caller = by(identity())
    assert await served(limiter, caller, 5, name) == 5
    refusals = await limiter.admit_all(caller, [name, "", "y" * 100_000])
    assert [refused is None for refused in refusals] == [True, False, False], "the key's limit holds"
    assert [key.split(":")[3] for key in limiter._buckets] == ["key"]
    assert {known[3] for known in limiter._found} == {""}


def test_alone_a_process_goes_on_where_redis_refused_last() -> None:
    bucket = Bucket("key", "account:x", CallLimit(10, 100.0), exact=False)
    bucket.refused_until = 1005.0
    assert bucket.wait_alone(1004.0) == pytest.approx(1.0)
    assert bucket.wait_alone(1006.0) == 0.0
    bucket.spend_alone(1006.0)
    assert bucket.wait_alone(1006.0) == pytest.approx(9.0), "not the whole limit once more"


def test_what_was_granted_alone_comes_back_and_is_told_no_more_and_told_again_until_it_was_heard() -> None:
    bucket = Bucket("key", "account:x", CallLimit(10, 100.0), exact=False)
    for _ in range(10):
        assert bucket.wait_alone(1000.0) == 0.0
        bucket.spend_alone(1000.0)
    assert bucket.wait_alone(1000.0) == pytest.approx(10.0)
    assert bucket.wait_alone(1010.0) == 0.0
    assert not bucket.idle(1099.0), "a new one would grant more"
    assert bucket.tell(1000.0) == 10
    assert bucket.tell(1065.0) == 4, "nobody heard it; six have come back"
    bucket.lease(1, 1065.0)
    assert bucket.tell(1065.0) == 0
    assert bucket.idle(1165.0)


def test_a_process_grants_a_part_of_a_window_by_itself_and_none_of_it_again_once_it_has_asked() -> None:
    bucket = Bucket("key", "account:x", CallLimit(320, 60.0), exact=False)
    assert bucket.has(10, 100.0)
    assert not bucket.has(11, 100.0)
    bucket.spend(4)
    assert bucket.tell(110.0) == 4
    assert not bucket.has(1, 169.0)
    bucket.lease(10, 110.0)
    assert bucket.has(10, 169.0)
    bucket.spend(3)
    assert bucket.tell(169.0) == 0, "leased calls are known"
    assert bucket.has(10, 229.5), "a window after it asked"
