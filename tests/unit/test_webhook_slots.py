"""Who gets the requests in flight."""

from __future__ import annotations

from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import new_uuid
from mesh_webhook.deliveries.slots import FIRST_SLOTS, Due, Share, Slots

GREEDY, BYSTANDER = new_uuid(), new_uuid()


def fill(slots: Slots, due: list[Due], *, retry: bool = False) -> int:
    """Begins all that `due` may have, again and again; returns how many that is."""
    begun = 0
    while shares := slots.share_out(
        [one for one in due if one.endpoint not in slots.full_endpoints], 1000, 1000
    ):
        room = {one: share.retries if retry else share.room for one, share in shares.items()}
        if not any(room.values()):
            break
        for one in due:
            for _ in range(room.get(one.endpoint, 0)):
                slots.begin(one.tenant, one.endpoint, retry=retry)
                begun += 1
    return begun


def endpoints(tenant: UUID, count: int) -> list[Due]:
    return [Due(tenant, new_uuid()) for _ in range(count)]


def test_endpoints_that_never_answer_leave_slots_for_another_tenant() -> None:
    slots = Slots(256, 16)
    fill(slots, endpoints(GREEDY, 300))
    [quick] = endpoints(BYSTANDER, 1)
    assert slots.share_out([*endpoints(GREEDY, 50), quick], 1000, 1000)[quick.endpoint].room == FIRST_SLOTS


def test_when_several_tenants_hold_all_they_can_the_next_gets_some() -> None:
    slots = Slots(256, 16)
    for _ in range(6):
        fill(slots, endpoints(new_uuid(), 300))
    [quick] = endpoints(BYSTANDER, 1)
    assert slots.share_out([quick], 1000, 1000)


def test_a_tenant_alone_gets_half_and_two_a_third_each() -> None:
    slots = Slots(240, 16)
    assert fill(slots, endpoints(GREEDY, 300)) == 120
    slots = Slots(240, 16)
    both = endpoints(GREEDY, 300) + endpoints(BYSTANDER, 300)
    assert fill(slots, both) == 160


def test_a_tenant_gets_no_fewer_at_a_time_because_others_have_much_due() -> None:
    slots = Slots(256, 16)
    [quick] = endpoints(BYSTANDER, 1)
    for _ in range(16):
        slots.begin(BYSTANDER, quick.endpoint, retry=False)
        slots.end(BYSTANDER, quick.endpoint, retry=False, answered=True)
    shares = slots.share_out([*endpoints(GREEDY, 50), quick], 64, 10)
    assert shares[quick.endpoint].room == 10
    assert sum(share.room for share in shares.values()) == 20


def test_what_is_free_goes_out_in_turns_over_tenants_and_their_endpoints() -> None:
    slots = Slots(8, 16)
    greedy, quick = endpoints(GREEDY, 5), endpoints(BYSTANDER, 2)
    shares = slots.share_out([*greedy, *quick], 1000, 1000)
    assert [shares[one.endpoint].room for one in quick] == [2, 1]
    assert [shares[one.endpoint].room for one in greedy if one.endpoint in shares] == [1, 1, 1]


def test_no_more_is_given_out_at_once_than_was_asked_for() -> None:
    slots = Slots(256, 16)
    shares = slots.share_out([*endpoints(GREEDY, 9), *endpoints(BYSTANDER, 9)], 6, 6)
    assert sum(share.room for share in shares.values()) == 6


def test_an_endpoint_without_answers_gets_fewer_slots_and_at_least_one() -> None:
    slots = Slots(256, 16)
    [hole] = endpoints(GREEDY, 1)
    limits = []
    for _ in range(4):
        slots.begin(hole.tenant, hole.endpoint, retry=False)
        slots.end(hole.tenant, hole.endpoint, retry=False, answered=False)
        limits.append(slots.limit(hole.endpoint))
    assert limits == [2, 1, 1, 1]


def test_answers_give_an_endpoint_slots_up_to_its_most() -> None:
    slots = Slots(256, 6)
    [quick] = endpoints(GREEDY, 1)
    limits = []
    for _ in range(4):
        slots.begin(quick.tenant, quick.endpoint, retry=False)
        slots.end(quick.tenant, quick.endpoint, retry=False, answered=True)
        limits.append(slots.limit(quick.endpoint))
    assert limits == [5, 6, 6, 6]


def test_a_request_that_was_not_made_teaches_nothing() -> None:
    slots = Slots(256, 16)
    [one] = endpoints(GREEDY, 1)
    slots.begin(one.tenant, one.endpoint, retry=False)
    slots.end(one.tenant, one.endpoint, retry=False, answered=None)
    assert slots.limit(one.endpoint) == FIRST_SLOTS
    assert slots.free == 256


def test_retries_leave_slots_of_their_tenant_for_first_attempts() -> None:
    slots = Slots(256, 16)
    fill(slots, endpoints(GREEDY, 300), retry=True)
    [fresh] = endpoints(GREEDY, 1)
    assert slots.share_out([fresh], 1000, 1000)[fresh.endpoint] == Share(FIRST_SLOTS, 0)


def test_a_retry_alone_may_have_the_only_slot() -> None:
    [one] = endpoints(GREEDY, 1)
    assert Slots(2, 1).share_out([one], 1000, 1000) == {one.endpoint: Share(1, 1)}


def test_full_endpoints_and_tenants_are_named() -> None:
    slots = Slots(4, 2)
    [one] = endpoints(GREEDY, 1)
    slots.begin(one.tenant, one.endpoint, retry=False)
    assert (slots.full_tenants, slots.full_endpoints) == ([], [])
    slots.begin(one.tenant, one.endpoint, retry=False)
    assert (slots.full_tenants, slots.full_endpoints) == ([GREEDY], [one.endpoint])
