"""Every method that is served, asked two hundred times for what nobody should ask: each answer is OK or a
typed error, and the mesh works afterwards.

Messages come from the descriptors (`tests/support/fuzz`), the same ones in each run but for the ids in them.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import partial
from math import ceil

import pytest
import pytest_asyncio
from google.protobuf import message_factory
from google.protobuf.message import Message
from grpc import StatusCode

from sessionmesh.v1.message_pb2 import MESSAGE_STATUS_DELIVERED
from tests.conftest import S3
from tests.support.api_methods import ApiMethod, public_methods
from tests.support.eventually import eventually
from tests.support.fuzz import near
from tests.support.fuzz.asking import Asked, all_of, ask, judge
from tests.support.fuzz.random_requests import Dice
from tests.support.fuzz.valid import served_methods, valid_frames, variants
from tests.support.fuzz.world import World, is_operators, new_phone, open_world, send
from tests.support.fuzz.wrong import Wrong, with_ids, with_output_fields, without_required, wrong_values
from tests.support.mesh_process import MeshProcess

pytestmark = pytest.mark.asyncio(loop_scope="module")

MESSAGES = 100
"""How many of each sort a method gets."""
SERVED = served_methods()
TENANTS = [method for method in SERVED if not is_operators(method)]
REFUSED_AT_LAST = {"SessionService.AnswerPairing": "PAIRING_IN_PROGRESS"}
"""What is refused here though all of it is right, and the reason: no attempt asks anything."""
every_served_method = pytest.mark.parametrize("method", SERVED, ids=[method.short for method in SERVED])


@pytest.fixture(scope="module")
def own_mesh(
    module_servers: dict[str, str], s3: S3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MeshProcess]:
    """A mesh that nobody else uses: its nodes are drained, and its network is given faults. Its store can do
    all that stores can do, and nothing is sent late because so much was sent before.
    """
    store = {
        "MESH_OBJECTS_URL": f"s3://test-{uuid.uuid4().hex[:12]}",
        "MESH_OBJECTS_ENDPOINT": s3.endpoint,
        "MESH_OBJECTS_ACCESS_KEY": s3.access_key,
        "MESH_OBJECTS_SECRET_KEY": s3.secret_key,
        "MESH_OBJECTS_REGION": s3.region,
    }
    state = tmp_path_factory.mktemp("fuzz") / "state"
    limits = ("SEND_PER_MINUTE", "SEND_PER_HOUR", "SEND_PER_DAY", "ACTS_PER_MINUTE", "ACTS_PER_HOUR")
    at_once = {f"MESH_SESSION_{name}": "1000000" for name in limits}
    running = MeshProcess(state, nodes=2, environment=module_servers | store | at_once)
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
    methods = public_methods()
    asked = await all_of([ask(world, each, "nearly empty", [nearly_empty(world, each)]) for each in methods])
    served = {
        each.short for each, one in zip(methods, asked, strict=True) if one.answer.reason != "NOT_SERVED"
    }
    expected = {method.short for method in SERVED}
    odd = [one for each, one in zip(methods, asked, strict=True) if each.short in served ^ expected]
    assert served == expected, odd


@every_served_method
async def test_a_key_needs_the_methods_scope(world: World, method: ApiMethod) -> None:
    """All other scopes together do not help."""
    stranger = await world.without_scope(method.scope)
    frames = [frame.SerializeToString() for frame in await valid_frames(world, method)]
    answer = await stranger(method, frames)
    assert (answer.code, answer.reason) == (StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")


@every_served_method
async def test_what_is_required_is_asked_for(world: World, method: ApiMethod) -> None:
    """Without a required field a request is refused, naming that field and no other."""
    judge(await wrong(world, method, without_required))


@every_served_method
async def test_impossible_values_are_refused(world: World, method: ApiMethod) -> None:
    """Enums without such a member, times that are none, NaN: refused, naming the field. What is extreme is
    taken, or refused in the same way.
    """
    judge(await wrong(world, method, wrong_values))


@pytest.mark.parametrize("method", TENANTS, ids=[method.short for method in TENANTS])
async def test_what_is_another_tenants_is_as_if_it_did_not_exist(world: World, method: ApiMethod) -> None:
    """The answer is the same as for an id that nobody has."""
    nobody = {prefix: f"{prefix}_{'0' * 26}" for prefix in world.strangers}
    foreign = await wrong(world, method, partial(with_ids, ids=world.strangers))
    unknown = await wrong(world, method, partial(with_ids, ids=nobody))
    for one, other in zip(foreign, unknown, strict=True):
        assert (one.answer.code, one.answer.reason, one.answer.fields) == (
            other.answer.code,
            other.answer.reason,
            other.answer.fields,
        ), one


@every_served_method
async def test_what_only_the_mesh_sets_is_ignored(world: World, method: ApiMethod) -> None:
    frames = await valid_frames(world, method)
    with_output = [with_output_fields(frame) or frame for frame in frames]
    asked = await ask(world, method, "output-only fields", with_output)
    assert taken(method, asked), asked


@every_served_method
async def test_near_valid(world: World, method: ApiMethod) -> None:
    """Requests one field away from one that is right."""
    edits: list[tuple[int, int, near.Edit]] = []
    for variant in range(variants(world, method)):
        base = await valid_frames(world, method, variant)
        sent = await ask(world, method, "valid", base)
        assert taken(method, sent), f"{method.short} is not valid: {base}\n{sent.answer}"
        share = ceil(MESSAGES / variants(world, method) / len(base))
        for place, frame in enumerate(base):
            chosen = near.choose(
                frame, share, f"{method.short} {variant} {place}", [*world.strangers.values()]
            )
            edits += [(variant, place, edit) for edit in chosen]

    async def one(variant: int, place: int, edit: near.Edit) -> Asked:
        frames = await valid_frames(world, method, variant)
        edit.apply(frames[place])
        return await ask(world, method, f"{edit.place} {edit.what}", frames)

    asked = await all_of([one(*edit) for edit in edits])
    await restore(world)
    judge(asked)


@every_served_method
async def test_random(world: World, method: ApiMethod) -> None:
    """Requests made by chance."""
    own = {} if is_operators(method) else {"tenant_id": [world.live["tenant_id"], ""]}
    dice = Dice(method.short, world.spare | own, [*world.strangers.values()])
    requests = [
        [dice.message(method.request) for _ in range(number % 3 + 1 if method.request_streaming else 1)]
        for number in range(MESSAGES)
    ]
    asked = await all_of([ask(world, method, f"random {n}", frames) for n, frames in enumerate(requests)])
    await restore(world)
    judge(asked)


async def test_the_mesh_works_afterwards(world: World) -> None:
    """Two new accounts are paired, and a message between them is delivered."""
    for name in ("", "spare_"):
        phone = new_phone()
        account_id = (await world("CreateAccount", account={"phone": phone})).account.id
        await world.pair(account_id, phone)
        world.live |= {f"{name}phone": phone, f"{name}account_id": account_id}
    message_id = await send(world, f"phone:{world.live['spare_phone']}")

    async def delivered() -> bool:
        named = {"message_id": message_id}
        found = await world("GetMessage", account_id=world.live["account_id"], message=named)
        return bool(found.message.status == MESSAGE_STATUS_DELIVERED)

    await eventually(delivered, what=f"{message_id} delivered")


async def wrong(
    world: World, method: ApiMethod, changes: Callable[[Message], Iterator[Wrong]]
) -> list[Asked]:
    """The answers to each of `changes` of each valid request."""

    async def one(variant: int, place: int, change: Wrong) -> Asked:
        frames = await valid_frames(world, method, variant)
        change.apply(frames[place])
        asked = await ask(world, method, f"{change.place} {change.what}", frames)
        return replace(asked, fault=change.fault_of(asked.answer))

    asked = [
        one(variant, place, change)
        for variant in range(variants(world, method))
        for place, frame in enumerate(await valid_frames(world, method, variant))
        for change in changes(frame)
    ]
    answered = await all_of(asked)
    await restore(world)
    return answered


def taken(method: ApiMethod, asked: Asked) -> bool:
    """Whether the request was right in all of its fields."""
    return asked.answer.ok or asked.answer.reason == REFUSED_AT_LAST.get(method.short)


async def restore(world: World) -> None:
    """Undo what the fuzz may have done to the nodes and to the network."""
    await world("UndrainNode", node_id=world.live["node_id"])
    await world("ClearFaults")
    await world("SetNetwork")
    await world("SetBehaviour")


def nearly_empty(world: World, method: ApiMethod) -> Message:
    """A request with nothing but what the router needs to know where to send it: an account that nobody will
    miss, as DeleteAccount asks for no more.
    """
    account = method.request.fields_by_name.get("account_id")
    spare = world.spare["account_id"][0]
    fields = {"account_id": spare} if account is not None and account.number == 1 else {}
    return message_factory.GetMessageClass(method.request)(**fields)
