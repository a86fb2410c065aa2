"""What the servers of a test run answer is on record, whichever process they are in."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic_ns
from typing import Any

import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from mesh_core import errors
from mesh_core.rpc.auth import new_api_key
from mesh_core.rpc.channels import open_channel
from tests.support.answers.records import Answer, answers_in
from tests.support.answers.sitecustomize import FOLDER_VARIABLE
from tests.support.eventually import eventually
from tests.support.probe_service import (
    MESH,
    SERVICE,
    ProbeServicer,
    ProbeStub,
    add_probe_to_server,
    letters,
    make_server,
)


class Servicer(ProbeServicer):
    async def Unary(self, request: Any, _context: Any) -> StringValue:
        if request.value == "fail":
            raise errors.NotFound("thing", "t1")
        if request.value == "wait":
            await asyncio.Event().wait()
        return StringValue(value="done")

    async def Up(self, _requests: Any, _context: Any) -> StringValue:
        return StringValue()

    async def Public(self, request: Any, _context: Any) -> StringValue:
        return StringValue(value=request.value)

    async def Both(self, requests: Any, _context: Any) -> AsyncIterator[StringValue]:
        async for request in requests:
            yield request
        await asyncio.Event().wait()

    async def Down(self, request: Any, _context: Any) -> AsyncIterator[StringValue]:
        for letter in request.value:
            yield StringValue(value=letter)
        raise errors.OutOfRange("no more", "CURSOR_OUT_OF_RANGE")


@pytest.fixture
async def probe() -> AsyncIterator[Any]:
    server = make_server(None)
    server.add(add_probe_to_server, Servicer())
    await server.start()
    async with open_channel(server.address) as channel:
        yield ProbeStub(channel)
    await server.stop()


class Since:
    """What this process has answered since now."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._begin = monotonic_ns()

    def answers(self) -> list[Answer]:
        folder = Path(os.environ[FOLDER_VARIABLE])
        found = [answer for place in folder.glob(f"*-{self._pid}.answers") for answer in answers_in(place)]
        return [answer for answer in found if answer.time >= self._begin and SERVICE in answer.path]

    def outcomes(self) -> list[tuple[str, str, str]]:
        """Method, code and reason of each."""
        return [(answer.path.rpartition("/")[2], answer.code, answer.reason) for answer in self.answers()]


@pytest.fixture
def since() -> Since:
    return Since(os.getpid())


async def test_an_answer_is_on_record_with_its_time_and_where_it_was_given(probe: Any, since: Since) -> None:
    await probe.Unary(StringValue(value="x"), metadata=MESH)
    (answer,) = since.answers()
    assert (answer.path, answer.code, answer.module) == (f"/{SERVICE}/Unary", "OK", Servicer.__module__)
    assert answer.time <= monotonic_ns()
    assert not answer.by_real_server


async def test_a_refusal_is_on_record_with_its_reason(probe: Any, since: Since) -> None:
    for call, value in ((probe.Unary, "fail"), (probe.Forgotten, "x")):
        with pytest.raises(grpc.aio.AioRpcError):
            await call(StringValue(value=value), metadata=MESH)
    refusals = [
        ("Unary", "NOT_FOUND", "RESOURCE_NOT_FOUND"),
        ("Forgotten", "PERMISSION_DENIED", "SCOPE_MISSING"),
    ]
    await eventually(lambda: since.outcomes() == refusals)


UNKNOWN = (("authorization", f"Bearer {new_api_key()[1]}"),)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [((), "CREDENTIALS_MISSING"), (UNKNOWN, "CREDENTIALS_INVALID")],
    ids=["none", "unknown"],
)
@pytest.mark.parametrize("name", ["Unary", "Down", "Up", "Both"])
async def test_a_key_that_is_refused_before_any_handler_has_the_call_is_on_record_once(
    probe: Any, since: Since, name: str, metadata: Any, reason: str
) -> None:
    request = letters("x") if name in ("Up", "Both") else StringValue(value="x")
    call = getattr(probe, name)(request, metadata=metadata)
    with pytest.raises(grpc.aio.AioRpcError):
        await (call.read() if name in ("Down", "Both") else call)
    await eventually(since.answers)
    await probe.Public(StringValue(value="x"))
    first, last = since.answers()
    assert (first.code, first.reason, first.module) == ("UNAUTHENTICATED", reason, Servicer.__module__)
    assert last.code == "OK", "of another call, which nobody has asked for a key"


async def test_a_stream_answers_with_its_first_frame_and_with_its_failure(probe: Any, since: Since) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        async for _ in probe.Down(StringValue(value="abc"), metadata=MESH):
            pass
    outcomes = [("Down", "OK", "-"), ("Down", "OUT_OF_RANGE", "CURSOR_OUT_OF_RANGE")]
    await eventually(lambda: since.outcomes() == outcomes)


async def test_that_a_caller_left_a_stream_is_not_on_record(probe: Any, since: Since) -> None:
    stream = probe.Both(letters("abc"), metadata=MESH)
    assert (await stream.read()).value == "a"
    stream.cancel()
    await probe.Unary(StringValue(value="x"), metadata=MESH)
    assert since.outcomes() == [("Both", "OK", "-"), ("Unary", "OK", "-")]


async def test_a_call_that_its_caller_gave_up_is_on_record_as_cancelled(probe: Any, since: Since) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await probe.Unary(StringValue(value="wait"), metadata=MESH, timeout=1)
    await eventually(since.answers)
    assert since.outcomes() == [("Unary", "CANCELLED", "-")]


async def test_a_method_that_nobody_wrote_is_on_record_as_not_served(probe: Any, since: Since) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await probe.Planned(StringValue(), metadata=MESH)
    (answer,) = await eventually(since.answers)
    assert (answer.reason, answer.module) == ("NOT_SERVED", "sessionmesh.test.v1.probe_pb2_grpc")


async def test_what_a_process_answered_before_it_was_killed_is_on_record() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.probe_process",
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        since = Since(process.pid)
        assert process.stdout is not None
        port = (await process.stdout.readline()).split()[-1].decode()
        async with open_channel(f"127.0.0.1:{port}") as channel:
            await ProbeStub(channel).Unary(StringValue(value="x"), metadata=MESH)
    finally:
        process.kill()
        await process.communicate()
    assert since.outcomes() == [("Unary", "OK", "-")]
