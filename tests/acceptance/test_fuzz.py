"""Every method that is served, asked two hundred times for what nobody should ask: each answer is OK or a typed
error, and the mesh works afterwards.

Messages come from the descriptors (`tests/support/fuzz`), the same ones in each run but for the ids in them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import pytest
import pytest_asyncio
from google.protobuf import message_factory
from google.protobuf.message import Message

from sessionmesh.v1.message_pb2 import MESSAGE_STATUS_DELIVERED
from tests.support.api_methods import ApiMethod, public_methods
from tests.support.eventually import eventually
from tests.support.fuzz import edges, near
from tests.support.fuzz.calls import Answer
from tests.support.fuzz.judging import fault_of
from tests.support.fuzz.random_requests import Dice
from tests.support.fuzz.valid import served_methods, valid_frames, variants
from tests.support.fuzz.world import World, new_phone, open_world, send
from tests.support.mesh_process import MeshProcess

pytestmark = pytest.mark.asyncio(loop_scope="module")

MESSAGES = 100
"""How many of each sort a method gets."""
AT_ONCE = 16
SERVED = served_methods()
every_served_method = pytest.mark.parametrize("method", SERVED, ids=[method.short for method in SERVED])


@dataclass(frozen=True, slots=True)
class Sent:
    """A call, and what was answered. `what` says in words what is special about it."""

    what: str
    frames: Sequence[Message]
    answer: Answer
    fault: str


@pytest.fixture(scope="module")
def own_mesh(
    module_servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MeshProcess]:
    """A mesh that nobody else uses: its nodes are drained, and its network is given faults."""
    running = MeshProcess(tmp_path_factory.mktemp("fuzz") / "state", nodes=2, environment=module_servers)
    try:
        running.start()
        yield running
        assert running.stop().code == 0, running.report()
    finally:
        running.ensure_gone()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(own_mesh: MeshProcess) -> AsyncIterator[World]:
    async with open_world(own_mesh.address, own_mesh.file.admin_key) as opened:
        yield opened


async def test_what_is_served_is_what_is_fuzzed(world: World) -> None:
    """A method that comes to be served needs a valid request in `tests/support/fuzz/valid.py`."""
    answers = {
        method.short: await world.caller(method)(method, [nearly_empty(world, method)])
        for method in public_methods()
    }
    served = {name for name, answer in answers.items() if answer.reason != "NOT_SERVED"}
    assert served == {method.short for method in SERVED}


@every_served_method
async def test_near_valid(world: World, method: ApiMethod) -> None:
    """Requests one field away from one that is answered OK."""
    edits: list[tuple[int, int, near.Edit]] = []
    for variant in range(variants(world, method)):
        base = await valid_frames(world, method, variant)
        sent = await ask(world, method, "valid", base)
        assert sent.answer.ok, f"{method.short} is not valid: {base}\n{sent.answer}"
        share = ceil(MESSAGES / variants(world, method) / len(base))
        for place, frame in enumerate(base):
            chosen = near.choose(frame, share, f"{method.short} {variant} {place}", world.strangers)
            edits += [(variant, place, edit) for edit in chosen]

    async def one(variant: int, place: int, edit: near.Edit) -> Sent:
        frames = await valid_frames(world, method, variant)
        edit.apply(frames[place])
        return await ask(world, method, f"{edit.place} {edit.what}", frames)

    judge(await all_of([one(*edit) for edit in edits]))
    await restore(world)


@every_served_method
async def test_random(world: World, method: ApiMethod) -> None:
    """Requests made by chance."""
    dice = Dice(method.short, world.spare, world.strangers)
    requests = [
        [dice.message(method.request) for _ in range(number % 3 + 1 if method.request_streaming else 1)]
        for number in range(MESSAGES)
    ]
    judge(await all_of([ask(world, method, f"random {n}", frames) for n, frames in enumerate(requests)]))
    await restore(world)


async def test_the_mesh_works_afterwards(world: World) -> None:
    """A new account is paired, sends, and its message is delivered."""
    await restore(world)
    phone = new_phone()
    world.live["account_id"] = (await world("CreateAccount", account={"phone": phone})).account.id
    await world.pair(world.live["account_id"], phone)
    message_id = await send(world)

    async def delivered() -> bool:
        found = await world("GetMessage", account_id=world.live["account_id"], message_id=message_id)
        return bool(found.message.status == MESSAGE_STATUS_DELIVERED)

    await eventually(delivered, what=f"{message_id} delivered")


async def ask(world: World, method: ApiMethod, what: str, frames: Sequence[Message]) -> Sent:
    serialised = [frame.SerializeToString() for frame in frames]
    on_the_wire = [edges.on_the_wire(frame) for frame in serialised]
    answer = await world.caller(method)(method, on_the_wire)
    fault = fault_of(answer, method.request, parses=on_the_wire == serialised)
    return Sent(what, frames, answer, fault)


async def all_of(asks: Sequence[Coroutine[None, None, Sent]]) -> list[Sent]:
    """All of them, some at once."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def in_turn(one: Coroutine[None, None, Sent]) -> Sent:
        async with turn:
            return await one

    return await asyncio.gather(*map(in_turn, asks))


def judge(sent: Sequence[Sent]) -> None:
    faults = [one for one in sent if one.fault]
    shown = "\n".join(f"{one.what}: {one.fault}\n    {str(one.frames)[:500]}" for one in faults[:10])
    assert not faults, f"{len(faults)} of {len(sent)}\n{shown}"


async def restore(world: World) -> None:
    """Undo what the fuzz may have done to the nodes and to the network."""
    await world("UndrainNode", node_id=world.live["node_id"])
    await world("ClearFaults")
    await world("SetNetwork")
    await world("SetBehaviour")


def nearly_empty(world: World, method: ApiMethod) -> bytes:
    """A request with nothing but what the router needs to know where to send it."""
    account = method.request.fields_by_name.get("account_id")
    fields = {"account_id": world.live["account_id"]} if account is not None and account.number == 1 else {}
    return message_factory.GetMessageClass(method.request)(**fields).SerializeToString()
