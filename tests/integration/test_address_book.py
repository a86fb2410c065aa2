"""The address book of an account, and what people in it show, through a real node."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from mesh_simulator.accounts.account import Account as NetworkAccount
from mesh_simulator.accounts.shown import Shown
from mesh_simulator.service import SimulatorServicer
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.simulator.v1 import simulator_pb2 as api
from sessionmesh.v1 import event_pb2, media_pb2
from tests.support import service_calls
from tests.support.eventually import eventually
from tests.support.session_node_stage import Account, NodeProcess, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADA, BOB = "+4915112345701", "+4915112345702"
NOBODY = "+4915112345703"
JPEG = b"\xff\xd8\xff\xe0 a picture"
ask = partial(service_calls.ask, "contact")
refused = partial(service_calls.refused, "contact")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(stage: Stage, redis_server: str) -> NodeProcess:
    """A session-node that has a Redis, and a media service."""
    await stage.running_media()
    stage.network.directory.unregistered.add(NOBODY)
    return await stage.start_node(MESH_REDIS_URL=redis_server)


async def told(stage: Stage, account: Account) -> list[tuple[str, Any]]:
    """The account's events about contacts."""
    return [
        (kind, event_pb2.Event.FromString(body).contact.contact)
        for kind, body in await stage.events(account)
        if kind.startswith("contact.")
    ]


def shows(stage: Stage, phone: str, **what: Any) -> NetworkAccount:
    """Have a person show something."""
    directory = stage.network.directory
    person = directory.by_phone.get(phone) or directory.create_account(phone, "Ada")
    picture = what.pop("picture", None)
    before = person.shown
    person.shown = Shown(**what, contacts={} if before is None else before.contacts)
    if picture is not None:
        change = wire.ChangeProfile(picture_ref=stage.network.blobs.put(picture) if picture else "")
        stage.network.profiles.change(person, change)
    return person


# --- the address book


@pytest.mark.read_back("SaveContact", "GetContact", "DeleteContact")
async def test_a_contact_is_saved_changed_and_deleted_here_and_on_the_network(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)

    saved = (
        await ask(
            stage, node, account, "SaveContact", address=ADA, full_name="Ada Lovelace", first_name="Ada"
        )
    ).contact

    assert (saved.person.address, saved.full_name, saved.first_name) == (
        f"phone:{ADA}",
        "Ada Lovelace",
        "Ada",
    )
    assert (await ask(stage, node, account, "GetContact", address=ADA)).contact == saved
    on_network = stage.on_network(account).shown
    assert on_network is not None
    assert on_network.contacts == {ADA: ("Ada Lovelace", "Ada")}
    again = (await ask(stage, node, account, "SaveContact", address=ADA, full_name="Ada King")).contact
    assert again.etag != saved.etag
    assert again.first_name == ""
    await ask(stage, node, account, "DeleteContact", address=ADA, etag=again.etag)
    await ask(stage, node, account, "DeleteContact", address=ADA)
    assert on_network.contacts == {}
    assert await refused(stage, node, account, "GetContact", address=ADA) == [
        "NOT_FOUND",
        "RESOURCE_NOT_FOUND",
    ]
    kinds = [(kind, contact.full_name) for kind, contact in await told(stage, account)]
    assert kinds == [
        ("contact.updated", "Ada Lovelace"),
        ("contact.updated", "Ada King"),
        ("contact.deleted", ""),
    ]


async def test_a_change_that_was_not_seen_is_not_overwritten(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    first = (await ask(stage, node, account, "SaveContact", address=ADA, full_name="Ada")).contact
    await ask(stage, node, account, "SaveContact", address=ADA, full_name="Augusta", etag=first.etag)

    mismatch = ["ABORTED", "ETAG_MISMATCH"]
    late = {"address": ADA, "etag": first.etag}
    assert await refused(stage, node, account, "SaveContact", full_name="Ada", **late) == mismatch
    assert await refused(stage, node, account, "DeleteContact", **late) == mismatch
    unknown = {"address": BOB, "full_name": "Bob", "etag": first.etag}
    assert await refused(stage, node, account, "SaveContact", **unknown) == mismatch
    assert (await ask(stage, node, account, "GetContact", address=ADA)).contact.full_name == "Augusta"


@pytest.mark.read_back("ListContacts")
async def test_contacts_come_in_pages_by_their_addresses(stage: Stage, node: NodeProcess) -> None:
    account, other = await stage.paired(node), await stage.paired(node)
    for phone, name in ((BOB, "Bob"), (ADA, "Ada")):
        await ask(stage, node, account, "SaveContact", address=phone, full_name=name)

    first = await ask(stage, node, account, "ListContacts", page_size=1)
    second = await ask(stage, node, account, "ListContacts", page_size=1, page_token=first.next_page_token)

    assert [one.full_name for one in (*first.contacts, *second.contacts)] == ["Ada", "Bob"]
    assert second.next_page_token == ""
    assert not (await ask(stage, node, other, "ListContacts")).contacts


async def test_a_contact_is_found_by_each_of_their_addresses(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    await ask(stage, node, account, "SaveContact", address=ADA, full_name="Ada")
    identity = (await ask(stage, node, account, "ResolveIdentities", addresses=[ADA])).identities[0].person
    await ask(stage, node, account, "FetchContact", address=f"hidden:{identity.hidden_id}")

    assert len((await ask(stage, node, account, "ListContacts")).contacts) == 1
    by_hidden_id = await ask(stage, node, account, "GetContact", address=f"hidden:{identity.hidden_id}")
    assert by_hidden_id.contact.full_name == "Ada"


@pytest.mark.read_back("FetchContact")
async def test_a_person_is_fetched_as_the_network_has_them_and_stored(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    shows(stage, ADA, about="at sea", picture=JPEG)
    await ask(stage, node, account, "SaveContact", address=ADA, full_name="Ada Lovelace")

    fetched = (await ask(stage, node, account, "FetchContact", address=ADA)).contact

    assert (fetched.about, fetched.push_name, fetched.full_name) == ("at sea", "Ada", "Ada Lovelace")
    assert fetched.picture_id
    assert fetched.fetch_time.seconds
    assert not fetched.blocked
    assert (await ask(stage, node, account, "GetContact", address=ADA)).contact == fetched
    events = len(await told(stage, account))
    await ask(stage, node, account, "FetchContact", address=ADA)
    assert len(await told(stage, account)) == events  # nothing is new


async def test_who_is_blocked_is_said_of_the_contact(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    await ask(stage, node, account, "SetBlocked", address=ADA, blocked=True)
    assert (await ask(stage, node, account, "GetContact", address=ADA)).contact.blocked
    await ask(stage, node, account, "SetBlocked", address=ADA, blocked=False)
    assert not (await ask(stage, node, account, "GetContact", address=ADA)).contact.blocked
    assert [contact.blocked for _, contact in await told(stage, account)] == [True, False]


async def test_contacts_that_cannot_be_kept_say_why(stage: Stage, node: NodeProcess) -> None:
    account, foreign = await stage.paired(node), await stage.of_another_tenant()
    unpaired = await stage.create_account()
    invalid = ["INVALID_ARGUMENT", "INVALID_FIELD"]

    async def said(about: Account, method: str = "SaveContact", **fields: Any) -> list[str]:
        given = {"address": ADA, "full_name": "Ada"} if method == "SaveContact" else {"address": ADA}
        return await refused(stage, node, about, method, **(given | fields))

    assert await said(account, address="group:1") == [*invalid, "address"]
    assert await said(account, full_name="x" * 101) == [*invalid, "full_name"]
    assert await said(account, first_name="x" * 101) == [*invalid, "first_name"]
    assert await said(account, address=NOBODY) == ["FAILED_PRECONDITION", "UNKNOWN_PERSON"]
    assert await said(unpaired) == ["FAILED_PRECONDITION", "NOT_PAIRED"]
    for method in ("SaveContact", "GetContact", "FetchContact", "DeleteContact", "GetContactPicture"):
        assert await said(foreign, method) == ["NOT_FOUND", "RESOURCE_NOT_FOUND"]
        assert await said(account, method, address="channel:1") == [*invalid, "address"]
    assert await refused(stage, node, foreign, "ListContacts") == ["NOT_FOUND", "RESOURCE_NOT_FOUND"]
    assert await said(account, "FetchContact", address=NOBODY) == ["FAILED_PRECONDITION", "UNKNOWN_PERSON"]


# --- what people show


@pytest.mark.read_back("ResolveIdentities")
async def test_people_are_resolved_in_the_order_they_were_asked_for(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)

    answer = await ask(stage, node, account, "ResolveIdentities", addresses=[NOBODY, ADA, f"phone:{ADA}"])

    nobody, ada, same = answer.identities
    assert (nobody.address, nobody.error.code, nobody.HasField("person")) == (NOBODY, 5, False)
    assert (ada.address, ada.person.phone, ada.person.user_id) == (ADA, ADA, ADA[1:])
    assert ada.person.hidden_id
    assert same.person == ada.person
    hidden = f"hidden:{ada.person.hidden_id}"
    by_hidden_id = await ask(stage, node, account, "ResolveIdentities", addresses=[hidden])
    assert by_hidden_id.identities[0].person.phone == ADA
    invalid = ["INVALID_ARGUMENT", "INVALID_FIELD"]
    assert await refused(stage, node, account, "ResolveIdentities", addresses=[ADA, "group:1"]) == [
        *invalid,
        "addresses[1]",
    ]
    assert await refused(stage, node, account, "ResolveIdentities", addresses=[ADA] * 101) == [
        *invalid,
        "addresses",
    ]


@pytest.mark.read_back("GetContactPicture")
async def test_a_picture_becomes_media_once_and_is_asked_for_once(
    stage: Stage, node: NodeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    answer = stage.network.queries.answer

    def heard(account: NetworkAccount, query: wire.Query) -> wire.Answer:
        if query.HasField("get_picture"):
            asked.append(query.get_picture.address)
        return answer(account, query)

    monkeypatch.setattr(stage.network.queries, "answer", heard)
    account = await stage.paired(node)
    phone = "+4915112345711"
    shows(stage, phone, picture=JPEG)

    first = (await ask(stage, node, account, "GetContactPicture", address=phone)).picture
    second = (await ask(stage, node, account, "GetContactPicture", address=phone)).picture
    small = (await ask(stage, node, account, "GetContactPicture", address=phone, preview=True)).picture

    assert first.picture_id
    assert first == second
    assert asked == [f"phone:{phone}"] * 2  # once for each size
    assert small.media_id == first.media_id
    media = await stage.running_media()
    request = media_pb2.DownloadMediaRequest(media_id=first.media_id)
    frames = [frame async for frame in media.media.DownloadMedia(request, metadata=stage.metadata)]
    assert b"".join(frame.chunk for frame in frames) == JPEG
    given = "SELECT member FROM account_record WHERE account = $1 AND kind = 42 AND key = $2 ORDER BY member"
    rows = await stage.database.fetch(given, account.uuid, f"phone:{phone}")
    assert [row["member"] for row in rows] == ["image", "preview"]  # so that it goes with the person


async def test_who_shows_no_picture_to_the_account_has_none(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    hides = "+4915112345721"
    shows(stage, hides, audiences={"picture": 7}, picture=JPEG)

    assert not (await ask(stage, node, account, "GetContactPicture", address=hides)).HasField("picture")


@pytest.mark.read_back("GetContactBusinessProfile")
async def test_a_company_shows_a_business_profile_and_a_person_none(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    company = "+4915112345731"
    shows(stage, company, business=wire.BusinessProfile(description="Tools").SerializeToString())

    found = await ask(stage, node, account, "GetContactBusinessProfile", address=company)
    nobody = await ask(stage, node, account, "GetContactBusinessProfile", address=BOB)

    assert found.business_profile.description == "Tools"
    assert found.business_profile.etag
    assert not nobody.HasField("business_profile")
    unknown = await refused(stage, node, account, "GetContactBusinessProfile", address=NOBODY)
    assert unknown == ["FAILED_PRECONDITION", "UNKNOWN_PERSON"]


# --- what happens elsewhere


async def test_what_the_phone_does_with_its_address_book_is_stored_and_told(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    service = SimulatorServicer(stage.network)

    async def on_phone(full_name: str) -> None:
        request = api.ChangeNetworkContactRequest(phone=account.phone, contact=ADA, full_name=full_name)
        await service.ChangeNetworkContact(request, None)  # type: ignore[arg-type]

    async def kinds() -> list[str]:
        return [kind for kind, _ in await told(stage, account)]

    await on_phone("Ada Lovelace")
    await eventually_told(kinds, ["contact.updated"])
    assert (await ask(stage, node, account, "GetContact", address=ADA)).contact.full_name == "Ada Lovelace"
    await on_phone("")
    await eventually_told(kinds, ["contact.updated", "contact.deleted"])
    assert await refused(stage, node, account, "GetContact", address=ADA) == [
        "NOT_FOUND",
        "RESOURCE_NOT_FOUND",
    ]
    assert not stage.on_network(account).notices


async def test_a_contact_that_shows_another_picture_is_told_and_asked_for_again(
    stage: Stage, node: NodeProcess
) -> None:
    account, phone = await stage.paired(node), "+4915112345741"
    shows(stage, phone, picture=JPEG + b" first")
    await ask(stage, node, account, "SaveContact", address=phone, full_name="Ada")
    first = (await ask(stage, node, account, "GetContactPicture", address=phone)).picture

    shows(stage, phone, about="ashore", picture=JPEG + b" second")
    stage.network.flush()

    async def known() -> bool:
        contact = (await ask(stage, node, account, "GetContact", address=phone)).contact
        return bool(contact.about == "ashore" and contact.picture_id)

    await eventually(known)
    second = (await ask(stage, node, account, "GetContactPicture", address=phone)).picture
    assert second.picture_id != first.picture_id
    assert second.media_id != first.media_id


async def test_what_strangers_show_is_not_kept(stage: Stage, node: NodeProcess) -> None:
    account, other = await stage.paired(node), await stage.paired(node)
    stage.network.person_news.contact(stage.on_network(account), BOB)  # not any more, and never was
    stage.network.flush()
    await eventually(lambda: not stage.on_network(account).notices)
    assert not (await ask(stage, node, account, "ListContacts")).contacts
    assert await told(stage, account) == await told(stage, other) == []


async def eventually_told(kinds: Any, wanted: list[str]) -> None:
    async def so() -> bool:
        return bool(await kinds() == wanted)

    await eventually(so)
