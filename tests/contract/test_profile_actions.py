"""What drivers do about the account itself, act by act of `ProfileActions`: those that a driver declares."""

from __future__ import annotations

import pytest
import pytest_asyncio

from mesh_session_node.drivers.interface.capabilities import Acting, Capability
from mesh_session_node.drivers.interface.outcomes import Refused
from sessionmesh.v1 import profile_pb2 as pb
from tests.support.driver_contract import Connect, needs
from tests.support.driver_worlds import DriverWorld

pytestmark = pytest.mark.asyncio(loop_scope="module")
JPEG = b"\xff\xd8\xff\xe0 the account's picture"


@pytest_asyncio.fixture(loop_scope="module")
async def acting(connect: Connect) -> Acting:
    return await connect()  # type: ignore[return-value]  # the cases ask for what it can do


@needs(Capability.PROFILE)
async def test_the_account_shows_another_name_and_text(acting: Acting) -> None:
    await acting.set_name("Shop")
    await acting.set_about("open")
    shown = await acting.own_profile()
    assert (shown.name, shown.about) == ("Shop", "open")
    await acting.set_about("")
    shown = await acting.own_profile()
    assert (shown.name, shown.about) == ("Shop", "")


@needs(Capability.PROFILE)
async def test_the_account_shows_a_picture_until_it_shows_none(acting: Acting) -> None:
    assert not (await acting.own_profile()).picture_id
    await acting.set_picture(JPEG)
    first = (await acting.own_profile()).picture_id
    assert first
    await acting.set_picture(b"")
    assert not (await acting.own_profile()).picture_id


@needs(Capability.EDIT_BUSINESS_PROFILE, Capability.BUSINESS_PROFILES)
async def test_a_business_shows_what_was_changed_beside_what_it_showed(
    world: DriverWorld, acting: Acting
) -> None:
    await world.show(world.phone, business=True)
    hours = pb.BusinessHours(time_zone="Europe/Berlin")
    hours.periods.add(
        day=pb.WEEKDAY_MONDAY, mode=pb.BUSINESS_HOURS_MODE_SPECIFIC, opens="09:00", closes="18:30"
    )
    hours.periods.add(day=pb.WEEKDAY_SUNDAY, mode=pb.BUSINESS_HOURS_MODE_APPOINTMENT)
    shown = pb.BusinessProfile(description="Tools", websites=["https://example.com"], hours=hours)

    await acting.set_business_profile(shown, ["description", "websites", "hours"])

    assert await acting.business_profile(f"phone:{world.phone}") == shown


@needs(Capability.PRIVACY)
async def test_privacy_settings_are_changed_one_by_one(acting: Acting) -> None:
    wanted = pb.PrivacySettings(last_seen=pb.PRIVACY_AUDIENCE_NOBODY, read_receipts=False)
    wanted.default_disappear_after.seconds = 86_400
    before = await acting.privacy()
    assert before.read_receipts

    await acting.set_privacy(wanted, ["last_seen", "read_receipts", "default_disappear_after"])

    after = await acting.privacy()
    assert after.last_seen == pb.PRIVACY_AUDIENCE_NOBODY
    assert not after.read_receipts
    assert after.default_disappear_after.seconds == 86_400
    assert after.picture == before.picture


@needs(Capability.PRIVACY)
async def test_an_audience_that_the_network_has_not_is_refused(acting: Acting) -> None:
    wanted = pb.PrivacySettings(online=pb.PRIVACY_AUDIENCE_KNOWN)
    with pytest.raises(Refused):
        await acting.set_privacy(wanted, ["online"])
