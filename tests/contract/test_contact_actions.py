"""What drivers do about people, act by act of `ContactActions`: those that a driver declares."""

from __future__ import annotations

import pytest
import pytest_asyncio

from mesh_session_node.drivers.interface.capabilities import Acting, Capability
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, Refusal, Refused
from tests.support.driver_contract import Connect, needs
from tests.support.driver_worlds import DriverWorld

JPEG = b"\xff\xd8\xff\xe0 a picture"
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


@needs(Capability.LOOK_UP_PERSON)
async def test_what_a_person_shows_is_asked_for(world: DriverWorld, acting: Acting) -> None:
    await world.show(THERE, about="at sea", picture=JPEG)
    shown = await acting.look_up_person(f"phone:{THERE}")
    assert (shown.about, bool(shown.picture_id), shown.business) == ("at sea", True, False)
    assert shown.identity.phone == THERE
    with pytest.raises(Refused) as refused:
        await acting.look_up_person(f"phone:{MISSING}")
    assert refused.value.refusal is Refusal.UNKNOWN_PERSON


@needs(Capability.RESOLVE_PEOPLE)
async def test_people_are_known_by_more_than_one_name(acting: Acting) -> None:
    nobody, somebody = await acting.resolve_people([f"phone:{MISSING}", f"phone:{THERE}"])
    assert nobody is None
    assert somebody is not None
    assert (somebody.phone, bool(somebody.user_id)) == (THERE, True)


@needs(Capability.ADDRESS_BOOK)
async def test_a_contact_is_saved_and_deleted_and_neither_twice(acting: Acting) -> None:
    for full_name in ("Ada Lovelace", "Ada King", "Ada King"):
        await acting.save_contact(f"phone:{THERE}", full_name, "Ada")
    for _ in range(2):
        await acting.delete_contact(f"phone:{THERE}")


@needs(Capability.ADDRESS_BOOK)
async def test_who_is_not_on_the_network_is_no_contact(acting: Acting) -> None:
    with pytest.raises(Refused) as refused:
        await acting.save_contact(f"phone:{MISSING}", "Nobody", "")
    assert refused.value.refusal is Refusal.UNKNOWN_PERSON


@needs(Capability.PICTURES)
async def test_a_picture_comes_with_its_bytes_unless_it_is_known(world: DriverWorld, acting: Acting) -> None:
    person = f"phone:{THERE}"
    await world.show(THERE)
    assert await acting.picture(person, preview=False, known="") is None
    await world.show(THERE, picture=JPEG)
    found = await acting.picture(person, preview=False, known="")
    assert found is not None
    assert found.data == JPEG
    again = await acting.picture(person, preview=False, known=found.picture_id)
    assert again is not None
    assert (again.picture_id, again.data) == (found.picture_id, b"")


@needs(Capability.BUSINESS_PROFILES)
async def test_a_company_has_a_business_profile_and_a_person_has_none(
    world: DriverWorld, acting: Acting
) -> None:
    person = f"phone:{THERE}"
    await world.show(THERE)
    assert await acting.business_profile(person) is None
    await world.show(THERE, business=True)
    assert await acting.business_profile(person) is not None
