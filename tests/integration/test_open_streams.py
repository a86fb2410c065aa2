"""Streams whose key is no longer good end, at the server and where a router relays them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc import StatusCode

from mesh_core import ids
from mesh_core.errors import MeshError
from mesh_core.rpc.auth import TENANT_SCOPES, KeyRow, Role, new_api_key
from sessionmesh.v1.authorization_pb2 import SCOPE_READ
from tests.integration.test_server_calls import Running, failure, text
from tests.support.eventually import eventually
from tests.support.probe_service import MESH, ProbeServicer, add_probe_to_server, make_server

STREAMS = ("Down", "Up", "Both")
REVOKED = {"revoked": True}
SUSPENDED = {"tenant_suspended": True}


class Endless(ProbeServicer):
    """Streams that would go on for ever; counts those that are open."""

    def __init__(self) -> None:
        self.open = 0

    async def Down(self, request: StringValue, _context: Any) -> AsyncIterator[StringValue]:
        self.open += 1
        try:
            yield request
            await asyncio.Event().wait()
        finally:
            self.open -= 1

    async def Up(self, requests: AsyncIterator[StringValue], _context: Any) -> StringValue:
        self.open += 1
        try:
            async for _ in requests:
                pass
        finally:
            self.open -= 1
        return text("")

    async def Both(self, requests: AsyncIterator[StringValue], context: Any) -> None:
        self.open += 1
        try:
            async for request in requests:
                await context.write(request)
        finally:
            self.open -= 1


class Keys:
    """One key, and how often it was looked up."""

    def __init__(self) -> None:
        _, secret, digest = new_api_key()
        self.row = KeyRow(Role.TENANT, ids.new_uuid(), digest, TENANT_SCOPES)
        self.metadata = (("authorization", f"Bearer {secret}"),)
        self.asked = 0
        self.away = False

    async def __call__(self, _key_id: object) -> KeyRow:
        self.asked += 1
        if self.away:
            raise ConnectionRefusedError
        return self.row


@pytest.fixture(autouse=True)
def judged_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh_core.rpc.server.open_streams.JUDGE_SECONDS", 0.01)
    monkeypatch.setattr("mesh_core.rpc.auth.authenticator.FRESH_SECONDS", 0.0)


@pytest.fixture
def keys() -> Keys:
    return Keys()


@pytest.fixture
def servicer() -> Endless:
    return Endless()


@pytest.fixture
async def running(keys: Keys, servicer: Endless) -> AsyncIterator[Running]:
    server = make_server(lookup=keys)
    server.add(add_probe_to_server, servicer)
    async with Running(server) as running:
        yield running


async def never() -> AsyncIterator[StringValue]:
    """A caller that goes on sending for ever, slowly."""
    yield text("x")
    await asyncio.Event().wait()


def opened(running: Running, name: str, metadata: Any) -> Any:
    call = getattr(running.probe, name)
    return call(text("x") if name == "Down" else never(), metadata=metadata)


async def end(call: Any, name: str) -> MeshError:
    async def read() -> None:
        if name == "Up":
            await call
        while True:
            await call.read()

    async with asyncio.timeout(10):
        return await failure(read())


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        (REVOKED, StatusCode.UNAUTHENTICATED, "CREDENTIALS_INVALID"),
        (SUSPENDED, StatusCode.PERMISSION_DENIED, "TENANT_SUSPENDED"),
        ({"scopes": frozenset()}, StatusCode.PERMISSION_DENIED, "SCOPE_MISSING"),
    ],
)
async def test_a_stream_ends_with_why_its_key_is_no_longer_good(
    running: Running,
    keys: Keys,
    servicer: Endless,
    name: str,
    change: dict[str, Any],
    code: StatusCode,
    reason: str,
) -> None:
    call = opened(running, name, keys.metadata)
    await eventually(lambda: servicer.open == 1)
    keys.row = replace(keys.row, **change)
    ended = await end(call, name)
    assert (ended.code, ended.reason) == (code, reason)
    await eventually(lambda: servicer.open == 0)


async def test_a_good_stream_goes_on_and_its_key_is_asked_for_once_a_turn_however_many_there_are(
    running: Running, keys: Keys, servicer: Endless
) -> None:
    calls = [opened(running, "Down", keys.metadata) for _ in range(30)]
    await eventually(lambda: servicer.open == 30)
    before = keys.asked
    judged = running.server._open_streams._judging
    await eventually(lambda: keys.asked > before + 3)
    assert servicer.open == 30
    assert running.server._open_streams._judging is judged is not None
    keys.row = replace(keys.row, revoked=True)
    for call in calls:
        assert (await end(call, "Down")).reason == "CREDENTIALS_INVALID"


async def test_streams_go_on_while_keys_cannot_be_looked_up(
    running: Running, keys: Keys, servicer: Endless
) -> None:
    call = opened(running, "Down", keys.metadata)
    await eventually(lambda: servicer.open == 1)
    keys.away = True
    before = keys.asked
    await eventually(lambda: keys.asked > before)
    assert (servicer.open, call.done()) == (1, False)


async def test_a_key_that_lost_another_scope_reads_on(
    running: Running, keys: Keys, servicer: Endless
) -> None:
    call = opened(running, "Down", keys.metadata)
    await eventually(lambda: servicer.open == 1)
    keys.row = replace(keys.row, scopes=frozenset({SCOPE_READ}))
    before = keys.asked
    await eventually(lambda: keys.asked > before + 2)
    assert (servicer.open, call.done()) == (1, False)


async def test_nothing_is_judged_any_more_when_no_stream_is_open(
    running: Running, keys: Keys, servicer: Endless
) -> None:
    call = opened(running, "Down", keys.metadata)
    await eventually(lambda: servicer.open == 1)
    call.cancel()
    await eventually(lambda: running.server._open_streams._judging is None)
    mesh = opened(running, "Down", MESH)
    assert (await mesh.read()).value == "x"
    assert running.server._open_streams._judging is None, "the mesh's own key is not judged"
