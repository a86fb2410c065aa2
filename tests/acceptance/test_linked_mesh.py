"""A mesh of linked devices: an account and Baileys, a client by another hand, write to each other as on
WhatsApp Web, and the demo shows the truth of it.

Both ends' logs are compared: nothing is lost, comes twice, or is something else than what was sent.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
import pyvips

from mesh_cli.commands.trace import fetch
from mesh_session_node.drivers.whatsapp_web.driver import WhatsappWebDriver
from sessionmesh.simulator.v1 import simulator_pb2
from sessionmesh.v1 import account_pb2, content_pb2, event_pb2, media_pb2, message_pb2
from sessionmesh.v1.common_pb2 import MessageRef
from tests.acceptance.baileys import Client, linked_client
from tests.acceptance.demo import shows_the_truth
from tests.support.eventually import eventually
from tests.support.media_processing import film, sound
from tests.support.mesh_api import Caller, open_caller, unique
from tests.support.mesh_process import MeshProcess
from tests.support.sent_contents import ABOUT, PARTS, SENT, as_others_see, content, says
from tests.support.sent_contents import uploads as stored_files

pytestmark = pytest.mark.asyncio(loop_scope="module")
EACH = 20
SECONDS = 120.0
FILES = {
    "image": "imageMessage",
    "video": "videoMessage",
    "voice_note": "audioMessage",
    "audio": "audioMessage",
    "document": "documentMessage",
    "sticker": "stickerMessage",
}
"""Kinds that are a file, and WhatsApp's names for them."""
CAPTIONED = {"image", "video", "document"}


@dataclass(frozen=True, slots=True)
class Ends:
    """The mesh's account, who calls for it, and the client."""

    caller: Caller
    account: account_pb2.Account
    client: Client
    phone: str
    """The client's number."""

    async def send(self, content: content_pb2.Content, **fields: Any) -> message_pb2.Message:
        """Have the account write to the client."""
        request = message_pb2.SendMessageRequest(
            account_id=self.account.id,
            request_id=unique(),
            recipient=f"phone:{self.phone}",
            content=content,
            **fields,
        )
        return await self.caller.send(request)

    async def events(self, *types: str) -> list[event_pb2.Event]:
        """The account's of these types, oldest first."""
        request = event_pb2.ListEventsRequest(
            account_ids=[self.account.id], event_types=types, page_size=1000
        )
        found: list[event_pb2.Event] = []
        more = True
        while more:
            page = await self.caller(self.caller.events.ListEvents, request)
            found += page.events
            request.cursor, more = page.next_cursor, page.more
        return found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def ends(linked_mesh: MeshProcess) -> AsyncIterator[Ends]:
    async with open_caller(linked_mesh.address, linked_mesh.file.admin_key) as admin:
        _, caller = await admin.new_tenant()
        account = await caller.new_account()
        await caller.pair(account, admin)
        network = await admin(admin.simulator.GetNetworkStats, simulator_pb2.GetNetworkStatsRequest())

        async def accept(request: simulator_pb2.AcceptPairingRequest) -> None:
            await admin(admin.simulator.AcceptPairing, request)

        phone = f"+4915{secrets.randbelow(10**9):09}"
        async with linked_client(network.address, network.root_key.hex(), phone, accept) as client:
            yield Ends(caller, account, client, phone)


async def test_what_the_mesh_sends_the_client_gets(ends: Ends) -> None:
    stored = await uploads(ends.caller)
    before = len(ends.client.lines)
    sent = await asyncio.gather(*(send_each_kind(ends, number, stored) for number in range(EACH)))
    wanted = [message for each in sent for message in each]
    await ends.client.until(lambda lines: len(messages_of(lines[before:])) >= len(wanted))
    got = messages_of(ends.client.lines[before:])
    assert counted(got) == counted(wanted)


async def test_the_sidecars_part_is_in_the_trace_of_a_message(linked_mesh: MeshProcess, ends: Ends) -> None:
    trace_id = secrets.token_hex(16)
    request = message_pb2.SendMessageRequest(
        account_id=ends.account.id,
        request_id=unique(),
        recipient=f"phone:{ends.phone}",
        content=content_pb2.Content(text=content_pb2.TextContent(body="traced")),
        wait_for=message_pb2.WAIT_FOR_SENT,
    )
    traced = ("traceparent", f"00-{trace_id}-{secrets.token_hex(8)}-01")
    await ends.caller(ends.caller.messages.SendMessage, request, metadata=(traced,))

    async def steps() -> set[str]:
        trace = await fetch(linked_mesh.file.traces_url, trace_id)
        spans = [] if trace is None else trace["spans"]
        sending = [span["spanID"] for span in spans if span["operationName"] == "mesh.driver.send"]
        return {
            span["operationName"].removeprefix("mesh.sidecar.")
            for span in spans
            if [reference["spanID"] for reference in span["references"]] == sending
        }

    async def whole() -> bool:
        return {"encrypt", "send", "wait"} <= await steps()

    await eventually(whole, 30, "the sidecar's spans")


async def test_what_one_linked_device_sends_another_gets(
    linked_mesh: MeshProcess, ends: Ends, record_property: Callable[[str, object], None]
) -> None:
    caller, kinds = ends.caller, sorted(WhatsappWebDriver.content_kinds, key=[*SENT].index)
    record_property("linked_content_kinds", len(kinds))
    account, other = await caller.new_account(), await caller.new_account()
    async with open_caller(linked_mesh.address, linked_mesh.file.admin_key) as admin:
        await caller.pair(account, admin)
        await caller.pair(other, admin)
    files = await stored_files(caller)
    sent: dict[str, message_pb2.Message] = {}
    contents = {kind: content(kind, SENT[kind], files) for kind in kinds}
    for kind, what in contents.items():
        if kind in ABOUT:
            field, about = ABOUT[kind]
            getattr(getattr(what, kind), field).message_id = sent[about].id
        request = message_pb2.SendMessageRequest(
            account_id=account.id,
            request_id=unique(),
            recipient=f"phone:{other.phone}",
            content=what,
            wait_for=message_pb2.WAIT_FOR_SENT,
        )
        sent[kind] = await caller.send(request)

    async def all_of_them() -> dict[str, message_pb2.Message] | None:
        request = message_pb2.ListMessagesRequest(account_id=other.id, page_size=1000)
        listed = (await caller(caller.messages.ListMessages, request)).messages
        came = {message.network_message_id: message for message in listed}
        return came if len(came) >= len(kinds) + PARTS else None

    came = await eventually(all_of_them, SECONDS, "a message of each kind")
    changed = {
        kind: came[sent[kind].network_message_id].content
        for kind, what in contents.items()
        if not says(came[sent[kind].network_message_id].content, as_whatsapp_says(what))
    }
    record_property("linked_content_kinds_round_trip", len(kinds) - len(changed))
    assert changed == {}


def as_whatsapp_says(what: content_pb2.Content) -> content_pb2.Content:
    """The content as it comes to others, without what WhatsApp's messages have no field for."""
    shown = as_others_see(what)
    if shown.HasField("live_location"):
        shown.live_location.ClearField("duration")
    if shown.HasField("choice"):
        shown.choice.ClearField("description")  # only answers to lists have one, and this one is to buttons
    return shown


async def test_what_the_client_sends_the_mesh_gets(ends: Ends, tmp_path: Path) -> None:
    # What the client votes on and answers.
    poll = content_pb2.PollContent(question="Tea?", answers=["yes", "no"], max_choices=1)
    asked = await ends.send(content_pb2.Content(poll=poll))
    said = await ends.send(content_pb2.Content(text=content_pb2.TextContent(body="Hello")))
    await ends.client.until_ids("message", {asked.network_message_id, said.network_message_id})
    files = {kind: tmp_path / kind for kind in FILES}
    for kind, data in data_of().items():
        files[kind].write_bytes(data)
    orders: list[dict[str, Any]] = []
    wanted: list[dict[str, Any]] = []
    for number in range(EACH):
        more, told = orders_of_each_kind(number, ends.account.phone, files, asked, said)
        orders += more
        wanted += told
    await ends.client.send(orders)
    await ends.client.until(lambda lines: len(ended(lines)) >= len(orders))
    assert ends.client.of("failed") == []

    async def all_told() -> list[event_pb2.Event] | None:
        found = await ends.events(
            "message.received", "message.reaction", "poll.voted", "message.edited", "message.revoked"
        )
        return found if len(found) >= len(wanted) else None

    events = await eventually(all_told, SECONDS, f"{len(wanted)} events")
    assert counted(map(told_of, events)) == counted(wanted)

    async def all_fetched() -> list[event_pb2.Event] | None:
        found = await ends.events("media.ready", "media.failed")
        return found if len(found) >= EACH * len(FILES) else None

    fetched = await eventually(all_fetched, SECONDS, "every file")
    originals = Counter([event.media.media.original_sha256.hex() for event in fetched])
    assert originals == Counter({sha256(files[kind].read_bytes()).hexdigest(): EACH for kind in FILES})


async def test_everything_that_the_demo_shows_is_true(linked_mesh: MeshProcess, tmp_path: Path) -> None:
    place = tmp_path / "figures.json"
    await asyncio.to_thread(shows_the_truth, linked_mesh.state, place, "--driver", "whatsapp_web")


async def send_each_kind(ends: Ends, number: int, stored: dict[str, media_pb2.Media]) -> list[dict[str, Any]]:
    """Send a message of each kind; what the client must say of them."""
    wanted: list[dict[str, Any]] = []

    def want(message: message_pb2.Message, kind: str, **fields: Any) -> message_pb2.Message:
        wanted.append({"id": message.network_message_id, "kind": kind, **fields})
        return message

    words = f"words {number}"
    text = want(await ends.send(text_of(words)), "conversation", text=words)
    reply = message_pb2.MessageOptions(reply_to=MessageRef(message_id=text.id))
    want(
        await ends.send(text_of(f"reply {number}"), options=reply),
        "extendedTextMessage",
        text=f"reply {number}",
        target=text.network_message_id,
        quoted=words,
    )
    location = content_pb2.LocationContent(latitude=52.5, longitude=13.4, name=words)
    want(
        await ends.send(content_pb2.Content(location=location)),
        "locationMessage",
        text=words,
        at=[52.5, 13.4],
    )
    vcard = f"BEGIN:VCARD\nVERSION:3.0\nFN:{words}\nEND:VCARD"
    card = content_pb2.ContactCard(display_name=words, vcard=vcard)
    cards = content_pb2.ContactCardsContent(cards=[card])
    want(
        await ends.send(content_pb2.Content(contact_cards=cards)),
        "contactMessage",
        text=words,
        vcards=[vcard],
    )
    poll = content_pb2.PollContent(question=words, answers=["yes", "no"], max_choices=1)
    want(
        await ends.send(content_pb2.Content(poll=poll)),
        "pollCreationMessage",
        text=words,
        answers=["yes", "no"],
    )
    for kind, name in FILES.items():
        content = content_pb2.Content()
        shown: Any = getattr(content, kind)
        shown.media.media_id = stored[kind].id
        told: dict[str, Any] = {"sha256": stored[kind].sha256.hex()}
        if kind in CAPTIONED:
            shown.caption = told["text"] = words
        if kind == "document":
            shown.file_name = told["file"] = f"{words}.pdf"
        if kind == "voice_note":
            told["voice"] = True
        want(await ends.send(content), name, **told)
    reaction = content_pb2.ReactionContent(message=MessageRef(message_id=text.id), emoji="👍")
    want(
        await ends.send(content_pb2.Content(reaction=reaction)),
        "reactionMessage",
        text="👍",
        target=text.network_message_id,
    )
    return wanted


def orders_of_each_kind(
    number: int,
    phone: str,
    files: dict[str, Path],
    asked: message_pb2.Message,
    said: message_pb2.Message,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the client is told to send, and what the mesh must tell of it."""
    orders: list[dict[str, Any]] = []
    wanted: list[dict[str, Any]] = []

    def order(kind: str, told_as: str = "", **fields: Any) -> str:
        name = f"3EB0{number:02}{len(orders):02}"
        shown = {key: value for key, value in fields.items() if key in ("text", "target")}
        orders.append({"id": name, "to": phone, "kind": kind, **fields})
        wanted.append({"id": name, "kind": told_as or kind, **shown})
        return name

    words = f"words {number}"
    text = order("text", text=words)
    order("text", text=f"reply {number}", target=said.network_message_id)
    place = order("location", text=words)
    order("contact", "contact_cards", text=words)
    order("poll", text=words)
    for kind in FILES:
        name = "voice" if kind == "voice_note" else kind
        order(name, kind, text=words, file=str(files[kind]))
        if kind not in CAPTIONED:
            del wanted[-1]["text"]
    order("reaction", text="👍", target=said.network_message_id)
    order("vote", "poll_vote", text="yes", target=asked.network_message_id)
    order("edit", text=f"new {number}", target=text)
    order("revoke", text="", target=place)
    for made in wanted:
        if made["kind"] in ("reaction", "poll_vote", "edit", "revoke"):
            del made["id"]
        if not made.get("text"):
            made.pop("text", None)
    return orders, wanted


def told_of(event: event_pb2.Event) -> dict[str, Any]:
    """What an event tells, as `orders_of_each_kind` wants it."""
    if event.type == "message.reaction":
        return {
            "kind": "reaction",
            "text": event.reaction.emoji,
            "target": event.reaction.message.network_message_id,
        }
    if event.type == "poll.voted":
        return {
            "kind": "poll_vote",
            "text": " ".join(event.poll.answers),
            "target": event.poll.poll.network_message_id,
        }
    if event.type in ("message.edited", "message.revoked"):
        message = event.message_changed.message
        changed = "edit" if event.type == "message.edited" else "revoke"
        told = {"kind": changed, "target": message.network_message_id}
        if message.content.text.body:
            told["text"] = message.content.text.body
        return told
    message = event.message.message
    kind = message.content.WhichOneof("kind") or ""
    shown: Any = getattr(message.content, kind)
    told = {"id": message.network_message_id, "kind": kind}
    words = ""
    for field in ("body", "caption", "name", "question"):
        words = words or getattr(shown, field, "")
    if kind == "contact_cards":
        words = shown.cards[0].display_name
    if message.HasField("quoted"):
        told["target"] = message.quoted.ref.network_message_id
    return told | ({"text": words} if words else {})


def messages_of(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the client says of messages, but for whom they are from."""
    aside = ("event", "from", "number", "chat")
    return [
        {key: line[key] for key in line if key not in aside} for line in lines if line["event"] == "message"
    ]


def ended(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] in ("sent", "failed")]


def counted(told: Iterable[dict[str, Any]]) -> Counter[str]:
    """By all that each says."""
    return Counter(msgspec.json.encode(one, order="sorted").decode() for one in told)


def text_of(body: str) -> content_pb2.Content:
    return content_pb2.Content(text=content_pb2.TextContent(body=body))


async def uploads(caller: Caller) -> dict[str, media_pb2.Media]:
    return {kind: await caller.upload(data, f"a.{kind}") for kind, data in data_of().items()}


def data_of() -> dict[str, bytes]:
    """A small file of each kind."""
    picture = (pyvips.Image.black(64, 64) + 128).cast("uchar")
    return {
        "image": picture.jpegsave_buffer(),
        "video": film(),
        "voice_note": sound("-c:a", "libopus", kind="ogg"),
        "audio": sound(),
        "document": b"%PDF-1.7\n" + bytes(100),
        "sticker": (pyvips.Image.black(512, 512) + 128).cast("uchar").webpsave_buffer(),
    }
