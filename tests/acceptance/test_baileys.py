"""The network of WhatsApp Web's protocol, with a client that another hand wrote: Baileys.

What the mesh's own library reads and what the network writes could be wrong in the same way. Both ends' logs
are compared here: what the client says it sent and got, and what the network saw and had people write.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from mesh_simulator.whatsapp_web import PROGRAM, ForwardingServicer, NetworkProgram, Ready
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.simulator.v1 import simulator_pb2 as api
from sessionmesh.simulator.v1 import simulator_pb2_grpc
from sessionmesh.v1 import content_pb2
from tests.acceptance.baileys import Client, linked_client

pytestmark = pytest.mark.asyncio(loop_scope="module")
ALICE, BOB = "+4915112345678", "+4915187654321"
EACH = 20


class Network(ForwardingServicer):
    """SimulatorService, and where its network is."""

    def __init__(self, stub: Any, ready: Ready) -> None:
        super().__init__(stub)
        self.ready = ready


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def network() -> AsyncIterator[Any]:
    if shutil.which(PROGRAM, path=str(Path(sys.executable).parent)) is None:
        pytest.skip("`make whatsapp-web` builds the network where Go is")
    program = await NetworkProgram.start("", "127.0.0.1:0")
    async with grpc.aio.insecure_channel(program.ready.grpc) as channel:
        yield Network(simulator_pb2_grpc.SimulatorServiceStub(channel), program.ready)
    await program.stop()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client(network: Any) -> AsyncIterator[Client]:
    ready = network.ready
    async with linked_client(ready.network, ready.root_key, ALICE, network.AcceptPairing) as client:
        yield client


async def test_what_it_sends_is_accepted_and_read(network: Any, client: Client) -> None:
    orders = [order for number in range(EACH) for order in _orders(number)]
    await client.send(orders)
    ids = {order["id"] for order in orders}
    await client.until_ids("sent", ids)
    await client.until_ids("receipt", _shown(orders))
    assert client.of("failed") == []
    verdict = await network.GetVerdict(api.GetVerdictRequest(), None)
    assert (verdict.sent, verdict.unreadable, list(verdict.findings)) == (len(orders), 0, [])


async def test_what_people_write_arrives_as_it_was_written(network: Any, client: Client) -> None:
    picture = await network.PutNetworkBlob(api.PutNetworkBlobRequest(data=b"a picture"), None)
    written: dict[str, str] = {}
    for number in range(EACH):
        for kind, content in _contents(number, picture.ref):
            request = api.InjectMessageRequest(phone=ALICE, sender=f"phone:{BOB}")
            request.encoded = content.SerializeToString()
            injected = await network.InjectMessage(request, None)
            written[injected.network_message_id] = kind
    await client.until_ids("message", set(written))
    got = client.of("message")
    assert {line["id"]: line["kind"] for line in got} == written
    assert Counter(line["id"] for line in got).most_common(1)[0][1] == 1
    pictures = {line.get("sha256") for line in got if line["kind"] == "imageMessage"}
    assert pictures == {sha256(b"a picture").hexdigest()}
    verdict = await network.GetVerdict(api.GetVerdictRequest(), None)
    assert (verdict.inbound, verdict.unreadable) == (len(written), 0)


def _orders(number: int) -> list[dict[str, Any]]:
    """A message of each kind that the client can send; the last three are about the first."""
    first = f"3EB0{number:02}00"
    kinds = ("text", "location", "contact", "poll", "image", "reaction", "edit", "revoke")
    return [
        {
            "id": f"3EB0{number:02}{at:02}",
            "to": BOB,
            "kind": kind,
            "text": f"{kind} {number}",
            "target": first,
        }
        | ({"own": True} if kind == "reaction" else {})
        for at, kind in enumerate(kinds)
    ]


def _shown(orders: list[dict[str, Any]]) -> set[str]:
    """Those whose receipts the client reports: it has none for messages about others."""
    return {order["id"] for order in orders if order["kind"] not in ("reaction", "edit", "revoke")}


def _contents(number: int, picture: str) -> list[tuple[str, wire.Content]]:
    """A message of each kind, by the name that WhatsApp has for it."""
    location = content_pb2.LocationContent(latitude=52.5, longitude=13.4, name="Berlin")
    cards = content_pb2.ContactCardsContent(
        cards=[content_pb2.ContactCard(display_name="Bo", vcard="BEGIN:VCARD\nVERSION:3.0\nFN:Bo\nEND:VCARD")]
    )
    poll = content_pb2.PollContent(question="Tea?", answers=["yes", "no"], max_choices=1)
    new = wire.Content(text=f"new {number}").SerializeToString()
    return [
        ("conversation", wire.Content(text=f"text {number}")),
        ("locationMessage", _other("location", location)),
        ("contactMessage", _other("contact_cards", cards)),
        ("pollCreationMessageV3", _other("poll", poll)),
        ("imageMessage", wire.Content(blob=wire.Blob(ref=picture, mime="image/jpeg", shown_as="image"))),
        (
            "reactionMessage",
            wire.Content(reaction=wire.Reaction(id="3EB0", emoji="+", sender=f"phone:{ALICE}")),
        ),
        ("protocolMessage", wire.Content(edit=wire.Edit(id=f"3A{number:02}", content=new))),
        ("protocolMessage", wire.Content(revoke=wire.Revoke(id=f"3A{number:02}"))),
    ]


def _other(kind: str, body: Any) -> wire.Content:
    return wire.Content(other=wire.Other(kind=kind, body=body.SerializeToString()))
