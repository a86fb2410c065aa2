"""What an account shows of itself, and to whom, through a real node."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from io import BytesIO
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image

from mesh_core.rpc.auth import new_api_key
from mesh_simulator.accounts.shown import Shown
from mesh_simulator.ledger.records import Kind
from sessionmesh.v1 import profile_pb2 as pb
from tests.support import service_calls
from tests.support.message_acts import act, saw, sent
from tests.support.session_node_stage import Account, NodeProcess, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

ask = partial(service_calls.ask, "profile")
refused = partial(service_calls.refused, "profile")
INVALID = ["INVALID_ARGUMENT", "INVALID_FIELD"]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(stage: Stage) -> NodeProcess:
    await stage.running_media()
    return await stage.start_node()


def picture(kind: str = "JPEG") -> bytes:
    data = BytesIO()
    Image.new("RGB", (64, 64), (90, 10, 10)).save(data, kind)
    return data.getvalue()


async def change(stage: Stage, node: NodeProcess, account: Account, **profile: Any) -> Any:
    etag = profile.pop("etag", "")
    request = {"profile": {**profile, "etag": etag}, "update_mask": {"paths": [*profile]}}
    return (await ask(stage, node, account, "UpdateProfile", **request)).profile


# --- the profile


@pytest.mark.read_back("GetProfile", "UpdateProfile")
async def test_the_account_shows_what_was_changed(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    media_id = await stage.upload(await stage.running_media(), picture())

    changed = await change(stage, node, account, name="Shop", about="open", picture_media_id=media_id)

    assert (changed.name, changed.about, changed.picture_media_id) == ("Shop", "open", media_id)
    assert changed.picture_id
    assert changed.person.phone == account.phone
    assert (await ask(stage, node, account, "GetProfile")).profile == changed
    without = await change(stage, node, account, picture_media_id="", etag=changed.etag)
    assert (without.name, without.picture_id, without.picture_media_id) == ("Shop", "", "")


async def test_profiles_that_cannot_be_shown_say_why(stage: Stage, node: NodeProcess) -> None:
    account, foreign = await stage.paired(node), await stage.of_another_tenant()
    unpaired = await stage.create_account()
    png = await stage.upload(await stage.running_media(), picture("PNG"))

    async def said(whose: Account, mask: list[str] | None = None, **profile: Any) -> list[str]:
        paths = {"paths": [*profile] if mask is None else mask}
        return await refused(stage, node, whose, "UpdateProfile", profile=profile, update_mask=paths)

    assert await said(account, name="x" * 26) == [*INVALID, "profile.name"]
    assert await said(account, ["name"], about="x") == [*INVALID, "profile.name"]
    assert await said(account, about="x" * 140) == [*INVALID, "profile.about"]
    assert await said(account, ["etag"], name="x") == [*INVALID, "update_mask"]
    assert await said(account, picture_media_id=png) == [*INVALID, "profile.picture_media_id"]
    assert await said(account, ["name"], name="x", etag="old") == ["ABORTED", "ETAG_MISMATCH"]
    assert await said(unpaired, name="x") == ["FAILED_PRECONDITION", "NOT_PAIRED"]
    assert await said(foreign, name="x") == ["NOT_FOUND", "RESOURCE_NOT_FOUND"]
    assert (await ask(stage, node, account, "GetProfile")).profile.name != "x"


async def test_a_key_of_some_accounts_shows_no_picture_that_it_does_not_see(
    stage: Stage, node: NodeProcess
) -> None:
    account, media_id = await stage.paired(node), await stage.upload(await stage.running_media(), picture())
    key_id, key, digest = new_api_key()
    await stage.database.execute(
        "INSERT INTO api_key (id, tenant, hash, scopes, role, account_ids) VALUES ($1, $2, $3, $4, 1, $5)",
        key_id,
        stage.tenant,
        digest,
        ["MANAGE", "SEND"],
        [account.uuid],
    )
    limited = replace(stage, key=key)

    profile = {"profile": {"picture_media_id": media_id}, "update_mask": {"paths": ["picture_media_id"]}}
    for said in (
        await refused(limited, node, account, "UpdateProfile", **profile),
        await service_calls.refused(
            "group",
            limited,
            node,
            account,
            "CreateGroup",
            request_id="1",
            name="x",
            picture_media_id=media_id,
        ),
    ):
        assert said == ["NOT_FOUND", "RESOURCE_NOT_FOUND"]


# --- the business profile


def hours(*periods: dict[str, Any], time_zone: str = "Europe/Berlin") -> dict[str, Any]:
    return {"time_zone": time_zone, "periods": periods}


@pytest.mark.read_back("GetBusinessProfile", "UpdateBusinessProfile")
async def test_a_business_shows_what_was_changed_beside_what_it_showed(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    assert not (await ask(stage, node, account, "GetBusinessProfile")).HasField("business_profile")
    stage.on_network(account).shown = Shown(business=b"")

    async def update(**profile: Any) -> Any:
        request = {"business_profile": profile, "update_mask": {"paths": [*profile]}}
        return (await ask(stage, node, account, "UpdateBusinessProfile", **request)).business_profile

    await update(description="Tools", email="a@example.com")
    changed = await update(
        description="Tools and paint",
        websites=["https://example.com/shop"],
        hours=hours({"day": 1, "mode": 1, "opens": "09:00", "closes": "24:00"}, {"day": 7, "mode": 3}),
    )

    assert (changed.description, changed.email) == ("Tools and paint", "a@example.com")
    assert [period.day for period in changed.hours.periods] == [1, 7]
    assert (await ask(stage, node, account, "GetBusinessProfile")).business_profile == changed


async def test_business_profiles_that_cannot_be_shown_say_why(stage: Stage, node: NodeProcess) -> None:
    account, person = await stage.paired(node), await stage.paired(node)
    stage.on_network(account).shown = Shown(business=b"")

    async def said(about: Account = account, **profile: Any) -> list[str]:
        request = {"business_profile": profile, "update_mask": {"paths": [*profile]}}
        answer = await refused(stage, node, about, "UpdateBusinessProfile", **request)
        return [part.removeprefix("business_profile.") for part in answer]

    day = {"day": 1, "mode": 1, "opens": "09:00", "closes": "18:00"}
    assert await said(description="x" * 513) == [*INVALID, "description"]
    assert await said(websites=["https://a.example"] * 3) == [*INVALID, "websites"]
    assert await said(websites=["ftp://a.example"]) == [*INVALID, "websites[0]"]
    assert await said(hours=hours(time_zone="Mars/Base")) == [*INVALID, "hours.time_zone"]
    assert await said(hours=hours(*[day] * 5)) == [*INVALID, "hours.periods"]
    assert await said(hours=hours({"mode": 2})) == [*INVALID, "hours.periods[0].day"]
    assert await said(hours=hours({**day, "mode": 2})) == [*INVALID, "hours.periods[0].opens"]
    assert await said(hours=hours({**day, "opens": "9:00"})) == [*INVALID, "hours.periods[0].opens"]
    assert await said(hours=hours(day, {**day, "closes": "09:00"})) == [*INVALID, "hours.periods[1].closes"]
    assert await said(person, description="x") == ["FAILED_PRECONDITION", "REFUSED_BY_NETWORK"]


# --- privacy


async def privacy(stage: Stage, node: NodeProcess, account: Account, **settings: Any) -> Any:
    paths = [name for name in settings if name != "etag"]
    request = {"privacy_settings": settings, "update_mask": {"paths": paths}}
    return (await ask(stage, node, account, "UpdatePrivacySettings", **request)).privacy_settings


@pytest.mark.read_back("GetPrivacySettings", "UpdatePrivacySettings")
async def test_privacy_settings_are_changed_one_by_one(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    before = (await ask(stage, node, account, "GetPrivacySettings")).privacy_settings

    changed = await privacy(
        stage,
        node,
        account,
        last_seen=pb.PRIVACY_AUDIENCE_NOBODY,
        default_disappear_after={"seconds": 604_800},
        etag=before.etag,
    )

    assert (before.last_seen, before.read_receipts) == (pb.PRIVACY_AUDIENCE_EVERYONE, True)
    assert changed.last_seen == pb.PRIVACY_AUDIENCE_NOBODY
    assert changed.default_disappear_after.seconds == 604_800
    assert (changed.about, changed.read_receipts) == (before.about, True)
    assert (await ask(stage, node, account, "GetPrivacySettings")).privacy_settings == changed


async def test_privacy_settings_that_nobody_has_say_why(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)

    async def said(paths: list[str] | None = None, **settings: Any) -> list[str]:
        mask = {"paths": [*settings] if paths is None else paths}
        request = {"privacy_settings": settings, "update_mask": mask}
        answer = await refused(stage, node, account, "UpdatePrivacySettings", **request)
        return [part.removeprefix("privacy_settings.") for part in answer]

    assert await said(about=pb.PRIVACY_AUDIENCE_CONTACTS_EXCEPT) == [*INVALID, "about"]
    assert await said(online=pb.PRIVACY_AUDIENCE_NOBODY) == [*INVALID, "online"]
    assert await said(["calls"]) == [*INVALID, "calls"]
    assert await said(default_disappear_after={"seconds": 90 * 86_400 + 1}) == [
        *INVALID,
        "default_disappear_after",
    ]
    assert await said(default_disappear_after={"nanos": 1}) == [*INVALID, "default_disappear_after"]
    assert await said(["etag"]) == [*INVALID, "update_mask"]
    assert await said(["about"], about=7, etag="old") == ["ABORTED", "ETAG_MISMATCH"]


async def test_without_read_receipts_nobody_is_told_what_was_read(stage: Stage, node: NodeProcess) -> None:
    account, other = await stage.paired(node), await stage.paired(node)
    await privacy(stage, node, account, read_receipts=False)
    message = await sent(stage, node, other, account.phone)
    about = {
        "network_message_id": message.network_message_id,
        "chat": f"phone:{other.phone}",
        "sender": f"phone:{other.phone}",
    }

    await act(stage, node, account, "MarkRead", messages=[about])

    await saw(stage, account, f"read {message.network_message_id}")
    told = [record.code for record in stage.records(Kind.RECEIPT, other)]
    assert 2 not in told  # READ
