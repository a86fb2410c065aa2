"""What drivers do about people, act by act of `ContactActions`: those that a driver declares."""

from __future__ import annotations

import pytest
import pytest_asyncio

from mesh_session_node.drivers.interface.capabilities import Acting, Capability
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, Refusal, Refused
from tests.support.driver_contract import Connect, needs
from tests.support.driver_worlds import DriverWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")
THERE, MISSING = "+4915100000002", "+4915100000003"


@pytest_asyncio.fixture(loop_scope="module")
async def acting(world: DriverWorld, connect: Connect) -> Acting:
    """A link; one number is on its network, and another one is not."""
    await world.register(THERE, on_network=True)
    await world.register(MISSING, on_network=False)
    return await connect()  # type: ignore[return-value]  # the cases ask for what it can do


async def blocked_by(acting: Acting) -> list[str]:
    return [one.address for one in await acting.list_blocked()]


@needs(Capability.CHECK_NUMBERS)
async def test_numbers_are_answered_in_their_order(acting: Acting) -> None:
    answers = await acting.check_numbers([MISSING, THERE])
    assert [(answer.phone, answer.registered) for answer in answers] == [(MISSING, False), (THERE, True)]
    assert answers[1].identity is not None
    assert answers[1].identity.user_id


@needs(Capability.CHECK_NUMBERS)
async def test_no_number_is_checked_over_a_link_that_has_ended(acting: Acting) -> None:
    acting.abort()  # type: ignore[attr-defined]  # it is a link
    with pytest.raises(ConnectionEnded):
        await acting.check_numbers([THERE])


@needs(Capability.BLOCK)
async def test_who_is_blocked_is_listed_until_they_are_not_any_more(acting: Acting) -> None:
    assert await blocked_by(acting) == []
    for _ in range(2):
        await acting.set_blocked(f"phone:{THERE}", blocked=True)
    assert await blocked_by(acting) == [f"phone:{THERE}"]
    for _ in range(2):
        await acting.set_blocked(f"phone:{THERE}", blocked=False)
    assert await blocked_by(acting) == []


@needs(Capability.BLOCK)
async def test_who_is_not_on_the_network_cannot_be_blocked(acting: Acting) -> None:
    with pytest.raises(Refused) as refused:
        await acting.set_blocked(f"phone:{MISSING}", blocked=True)
    assert refused.value.refusal is Refusal.UNKNOWN_PERSON
    assert await blocked_by(acting) == []
