"""The server chassis around calls: kinds, identity, scopes, errors, traces, metrics, standard services."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest
import structlog
from google.protobuf.wrappers_pb2 import StringValue
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from mesh_core import errors
from mesh_core.errors import MeshError
from mesh_core.ids import new_uuid
from mesh_core.rpc.auth import KeyRow, Role, current_identity, new_api_key
from mesh_core.rpc.channels import open_channel
from mesh_core.rpc.server import Server, status
from mesh_core.rpc.server import calls as calls_of_server
from mesh_core.settings import ServerSettings, TelemetrySettings
from mesh_core.telemetry import tracing
from sessionmesh.v1 import authorization_pb2
from tests.support.eventually import eventually
from tests.support.probe_service import (
    ADMIN,
    MESH,
    SERVICE,
    Echo,
    ProbeServicer,
    ProbeStub,
    add_probe_to_server,
    letters,
    make_server,
)
from tests.support.relay import relay_to

RECORDED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNRECORDED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


class Running:
    """A started server and a channel to it."""

    def __init__(self, server: Server) -> None:
        self.server = server

    async def __aenter__(self) -> Running:
        await self.server.start()
        self.channel = open_channel(self.server.address)
        self.probe = ProbeStub(self.channel)
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.channel.close()
        await self.server.stop()


def serving(servicer: object, settings: ServerSettings | None = None) -> Running:
    server = make_server(settings)
    server.add(add_probe_to_server, servicer)
    return Running(server)


async def failure(call: Any) -> MeshError:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return status.from_rpc_error(failed.value)


def text(value: str) -> StringValue:
    return StringValue(value=value)


async def test_all_four_kinds_of_methods_of_a_servicer_are_served() -> None:
    async with serving(Echo()) as running:
        probe = running.probe
        assert (await probe.Unary(text("one"), metadata=MESH)).value == "one"
        assert [part.value async for part in probe.Down(text("abc"), metadata=MESH)] == ["a", "b", "c"]
        assert (await probe.Up(letters("abc"), metadata=MESH)).value == "abc"
        assert [part.value async for part in probe.Both(letters("abc"), metadata=MESH)] == ["a", "b", "c"]


async def test_all_four_kinds_of_methods_are_served_with_bytes() -> None:
    async def unary(request: bytes, _context: Any) -> bytes:
        return request

    async def down(request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield request
        yield request

    async def up(requests: AsyncIterator[bytes], _context: Any) -> bytes:
        return [request async for request in requests][-1]

    async def both(requests: AsyncIterator[bytes], context: Any) -> None:
        async for request in requests:
            await context.write(request)

    server = make_server()
    server.add_bytes(SERVICE, {"Unary": unary, "Down": down, "Up": up, "Both": both})
    async with Running(server) as running:
        probe = running.probe
        assert (await probe.Unary(text("one"), metadata=MESH)).value == "one"
        assert [part.value async for part in probe.Down(text("x"), metadata=MESH)] == ["x", "x"]
        assert (await probe.Up(letters("abc"), metadata=MESH)).value == "c"
        assert [part.value async for part in probe.Both(letters("abc"), metadata=MESH)] == ["a", "b", "c"]


async def test_bytes_handlers_replace_a_servicers_methods_and_leave_the_others() -> None:
    async def unary(_request: bytes, _context: Any) -> bytes:
        return text("hot").SerializeToString()

    server = make_server()
    server.add(add_probe_to_server, Echo())
    server.add_bytes(SERVICE, {"Unary": unary})
    async with Running(server) as running:
        assert (await running.probe.Unary(text("x"), metadata=MESH)).value == "hot"
        assert (await running.probe.Up(letters("ab"), metadata=MESH)).value == "ab"


async def test_a_handler_must_be_asynchronous() -> None:
    class Wrong(Echo):
        def Unary(self, request: StringValue, _context: Any) -> StringValue:  # type: ignore[override]  # the point
            return request

    with pytest.raises(TypeError, match="Unary must be served by an asynchronous function"):
        make_server().add(add_probe_to_server, Wrong())


async def test_a_method_that_the_servicer_does_not_define_is_not_served() -> None:
    async with serving(Echo()) as running:
        answer = await failure(running.probe.Planned(text(""), metadata=MESH))
        assert (type(answer), answer.reason) == (errors.Unimplemented, "NOT_SERVED")


@pytest.mark.parametrize("path", [f"/{SERVICE}/Nothing", "/no.such.Service/Call", "/nonsense"])
async def test_a_method_that_nobody_knows_is_not_served(path: str) -> None:
    async with serving(Echo()) as running:
        nobody: Any = running.channel.unary_unary(path)
        answer = await failure(nobody(b""))
        assert (type(answer), answer.reason) == (errors.Unimplemented, "NOT_SERVED")


@pytest.mark.parametrize("name", ["Up", "Both"])
async def test_a_caller_that_is_refused_while_it_sends_learns_why(name: str) -> None:
    async with serving(Echo()) as running:
        call = getattr(running.probe, name)(letters("x" * 500))
        answer = await failure(call if name == "Up" else call.read())
        assert (type(answer), answer.reason) == (errors.Unauthenticated, "CREDENTIALS_MISSING")


@pytest.mark.parametrize("name", ["Unary", "Down", "Up", "Both"])
async def test_a_request_that_cannot_be_parsed_is_invalid(name: str) -> None:
    async with serving(Echo()) as running:
        kinds = {
            "Unary": "unary_unary",
            "Down": "unary_stream",
            "Up": "stream_unary",
            "Both": "stream_stream",
        }
        multi: Any = getattr(running.channel, kinds[name])(f"/{SERVICE}/{name}")
        call = multi(iter([b"\x0a\x05"]) if name in ("Up", "Both") else b"\x0a\x05", metadata=MESH)
        answer = await failure(call.read() if name in ("Down", "Both") else call)
        assert (type(answer), answer.reason) == (errors.InvalidArgument, "INVALID_FIELD")


async def test_the_handler_sees_who_calls() -> None:
    class Who(ProbeServicer):
        async def Unary(self, _request: StringValue, _context: Any) -> StringValue:
            return text(current_identity().key_id)

    async with serving(Who()) as running:
        assert (await running.probe.Unary(text(""), metadata=ADMIN)).value == "bootstrap"
        assert (await running.probe.Unary(text(""), metadata=MESH)).value == "mesh"


async def test_the_scope_of_the_proto_decides_who_may_call_what() -> None:
    key_id, secret, digest = new_api_key()
    scopes = frozenset({authorization_pb2.SCOPE_READ})

    async def lookup(_key_id: object) -> KeyRow:
        return KeyRow(Role.TENANT, new_uuid(), digest, scopes)

    server = make_server(lookup=lookup)
    server.add(add_probe_to_server, Echo())
    reader = (("authorization", f"Bearer {secret}"),)
    async with Running(server) as running:
        probe = running.probe
        assert [part.value async for part in probe.Down(text("a"), metadata=reader)] == ["a"]
        denied = await failure(probe.Unary(text(""), metadata=reader))
        assert (type(denied), denied.reason) == (errors.PermissionDenied, "SCOPE_MISSING")
        assert denied.metadata == {"scope": "SEND"}
        assert (await failure(probe.Operate(text(""), metadata=reader))).reason == "SCOPE_MISSING"
        assert (await probe.Operate(text("x"), metadata=ADMIN)).value == "x"
        assert (await failure(probe.Internal(text(""), metadata=ADMIN))).reason == "SCOPE_MISSING"
        assert (await probe.Internal(text("x"), metadata=MESH)).value == "x"
        assert (await probe.Public(text("x"))).value == "x"
    assert key_id


async def test_a_method_without_a_scope_is_refused_to_everybody() -> None:
    async with serving(Echo()) as running:
        for caller in (MESH, ADMIN):
            assert (
                await failure(running.probe.Forgotten(text(""), metadata=caller))
            ).reason == "SCOPE_MISSING"
        assert (await failure(running.probe.Forgotten(text("")))).reason == "CREDENTIALS_MISSING"


async def test_domain_errors_reach_the_caller_from_every_kind_of_method() -> None:
    class Failing(ProbeServicer):
        async def Unary(self, _request: StringValue, _context: Any) -> StringValue:
            raise errors.InvalidField("value", "must be better")

        async def Down(self, request: StringValue, _context: Any) -> AsyncIterator[StringValue]:
            yield request
            raise errors.NotFound("account", "acc_1")

        async def Up(self, _requests: AsyncIterator[StringValue], _context: Any) -> StringValue:
            raise errors.ResourceExhausted("slow down", "RATE_LIMITED", retry_after=2.0)

        async def Both(self, _requests: AsyncIterator[StringValue], context: Any) -> None:
            await context.write(text("first"))
            raise errors.NotOwner("node-2", 9)

    async with serving(Failing()) as running:
        probe = running.probe
        invalid = await failure(probe.Unary(text(""), metadata=MESH))
        assert isinstance(invalid, errors.InvalidField)
        assert invalid.field == "value"
        down = probe.Down(text("x"), metadata=MESH)
        assert (await down.read()).value == "x"
        assert isinstance(await failure(down.read()), errors.NotFound)
        limited = await failure(probe.Up(letters("abc"), metadata=MESH))
        assert (limited.code, limited.retry_after) == (grpc.StatusCode.RESOURCE_EXHAUSTED, 2.0)
        both = probe.Both(metadata=MESH)
        assert (await both.read()).value == "first"
        moved = await failure(both.read())
        assert isinstance(moved, errors.NotOwner)
        assert (moved.owner, moved.epoch) == ("node-2", 9)


async def test_a_defect_is_answered_with_the_id_under_which_it_was_logged() -> None:
    class Broken(ProbeServicer):
        async def Unary(self, _request: StringValue, _context: Any) -> StringValue:
            raise KeyError("hunter2")

    async with serving(Broken()) as running:
        with structlog.testing.capture_logs() as logs:
            answer = await failure(running.probe.Unary(text(""), metadata=MESH))
        assert answer.code is grpc.StatusCode.INTERNAL
        assert "hunter2" not in answer.message
        (entry,) = (log for log in logs if log["event"] == "call failed")
        assert entry["error_id"] == answer.metadata["error_id"]


class Witness:
    """Something that a handler's frame holds."""


class Refusing(ProbeServicer):
    """Raises, and has a witness in its frame by then."""

    witness: weakref.ref[Witness] | None = None

    async def Unary(self, _request: StringValue, _context: Any) -> StringValue:
        witness = Witness()
        self.witness = weakref.ref(witness)
        raise errors.NotFound("witness", repr(witness))

    async def Both(self, requests: AsyncIterator[StringValue], context: Any) -> None:
        await anext(requests)
        await self.Unary(StringValue(), context)


@pytest.fixture
def without_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_garbage_collection")
@pytest.mark.parametrize("name", ["Unary", "Both"])
async def test_what_a_failed_call_had_in_hand_is_let_go_at_once(name: str) -> None:
    refusing = Refusing()
    async with serving(refusing) as running:
        if name == "Unary":
            await failure(running.probe.Unary(text("x"), metadata=ADMIN))
        else:
            await failure(running.probe.Both(letters("x"), metadata=ADMIN).read())
        witness = refusing.witness
        assert witness is not None
        await eventually(lambda: witness() is None, 5, "the end of the witness")


async def test_trailing_metadata_that_a_handler_set_goes_with_its_error() -> None:
    class Failing(ProbeServicer):
        async def Unary(self, _request: StringValue, context: Any) -> StringValue:
            context.set_trailing_metadata((("x-mesh-note", "kept"),))
            raise errors.Aborted("stale", "ETAG_MISMATCH")

    async with serving(Failing()) as running:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await running.probe.Unary(text(""), metadata=MESH)
        assert ("x-mesh-note", "kept") in tuple(failed.value.trailing_metadata())
        assert status.from_rpc_error(failed.value).reason == "ETAG_MISMATCH"


async def test_a_handlers_own_abort_is_left_as_it_is() -> None:
    class Aborting(ProbeServicer):
        async def Unary(self, _request: StringValue, context: Any) -> StringValue:
            await context.abort(grpc.StatusCode.DATA_LOSS, "as it was", (("x-mesh-note", "kept"),))
            raise AssertionError

    async with serving(Aborting()) as running:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await running.probe.Unary(text(""), metadata=MESH)
        assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.DATA_LOSS, "as it was")


async def test_a_time_out_behind_a_passed_deadline_is_the_callers() -> None:
    class Slow(ProbeServicer):
        async def Unary(self, _request: StringValue, context: Any) -> StringValue:
            async with asyncio.timeout(context.time_remaining() + 0.01):
                await asyncio.Event().wait()
            raise AssertionError

    async with serving(Slow()) as running:
        answer = await failure(running.probe.Unary(text(""), metadata=MESH, timeout=0.1))
        assert answer.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_caller_that_cancels_cancels_the_handler() -> None:
    entered, cancelled = asyncio.Event(), asyncio.Event()

    class Endless(ProbeServicer):
        async def Unary(self, _request: StringValue, _context: Any) -> StringValue:
            entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise
            raise AssertionError

    async with serving(Endless()) as running:
        call = running.probe.Unary(text(""), metadata=MESH)
        await entered.wait()
        call.cancel()
        async with asyncio.timeout(5):
            await cancelled.wait()


class Trace(ProbeServicer):
    async def Unary(self, _request: StringValue, _context: Any) -> StringValue:
        return text(tracing.current_traceparent())


async def test_a_recorded_trace_gets_a_server_span() -> None:
    memory = InMemorySpanExporter()
    tracing.configure("sessionmesh-test", TelemetrySettings(sample_ratio=0), exporter=memory)
    async with serving(Trace()) as running:
        seen = (await running.probe.Unary(text(""), metadata=(*MESH, ("traceparent", RECORDED)))).value
    tracing.shutdown()
    (span,) = memory.get_finished_spans()
    context = span.get_span_context()
    assert context is not None
    assert span.name == f"{SERVICE}/Unary"
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == RECORDED[36:52]
    assert seen == f"00-{RECORDED[3:35]}-{context.span_id:016x}-01"
    assert span.attributes == {
        "rpc.system.name": "grpc",
        "rpc.method": f"{SERVICE}/Unary",
        "rpc.response.status_code": "OK",
    }


async def test_an_unsampled_trace_is_handed_on_without_a_span() -> None:
    memory = InMemorySpanExporter()
    tracing.configure("sessionmesh-test", TelemetrySettings(sample_ratio=1), exporter=memory)
    async with serving(Trace()) as running:
        seen = (await running.probe.Unary(text(""), metadata=(*MESH, ("traceparent", UNRECORDED)))).value
    tracing.shutdown()
    assert seen == UNRECORDED
    assert memory.get_finished_spans() == ()


async def test_calls_do_not_see_each_others_trace() -> None:
    async with serving(Trace()) as running:
        first = (await running.probe.Unary(text(""), metadata=MESH)).value
        second = (await running.probe.Unary(text(""), metadata=MESH)).value
    assert first.endswith("-00")
    assert first[3:35] != second[3:35]


async def test_the_metrics_page_counts_calls_by_method_and_code() -> None:
    async with serving(Echo()) as running:
        await running.probe.Unary(text(""), metadata=MESH)
        await failure(running.probe.Planned(text(""), metadata=MESH))
        page = await metrics_page(running)
    counts = counted(page)
    assert counts[f"{SERVICE}/Unary", "OK"] > 0
    assert counts[f"{SERVICE}/Planned", "UNIMPLEMENTED"] > 0
    assert "process_cpu_seconds_total" in page


@pytest.mark.parametrize(("patience", "code"), [(0.1, "DEADLINE_EXCEEDED"), (5.0, "CANCELLED")])
async def test_calls_whose_time_is_up_count_as_cancelled_only_where_they_had_little(
    patience: float, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls_of_server, "PATIENCE_SECONDS", patience)

    class Stuck(ProbeServicer):
        async def Unary(self, _request: StringValue, _context: Any) -> StringValue:
            await asyncio.Event().wait()
            raise AssertionError

    calls = 20
    async with serving(Stuck()) as running:
        before = counted(await metrics_page(running))
        await asyncio.gather(
            *(failure(running.probe.Unary(text(""), metadata=MESH, timeout=0.5)) for _ in range(calls))
        )

        async def ended() -> Counter[tuple[str, str]] | None:
            codes = counted(await metrics_page(running)) - before
            return codes if codes.total() >= calls else None

        assert await eventually(ended) == {(f"{SERVICE}/Unary", code): calls}


async def metrics_page(running: Any) -> str:
    url = f"http://127.0.0.1:{running.server.metrics_port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.text()


def counted(page: str) -> Counter[tuple[str, str]]:
    """Calls by method and code."""
    return Counter(
        {
            (sample.labels["rpc_method"], sample.labels["rpc_response_status_code"]): int(sample.value)
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == "rpc_server_call_duration_seconds_count"
        }
    )


@pytest.mark.parametrize(
    ("listen", "host"), [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "node.example.com")]
)
async def test_of_its_metrics_page_a_server_tells_an_address_that_others_reach(
    listen: str, host: str
) -> None:
    settings = ServerSettings(metrics_listen=listen, advertise="node.example.com:7600")
    async with serving(Echo(), settings) as running:
        assert running.server.metrics_address == f"{host}:{running.server.metrics_port}"


async def test_a_message_over_the_limit_is_refused() -> None:
    async with serving(Echo(), ServerSettings(max_message_bytes=1000)) as running:
        answer = await failure(running.probe.Unary(text("x" * 2000), metadata=MESH))
        assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_health_asks_for_no_key_and_knows_the_services() -> None:
    async with serving(Echo()) as running:
        health = health_pb2_grpc.HealthStub(running.channel)
        for service in ("", SERVICE):
            answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        unknown = await failure(health.Check(health_pb2.HealthCheckRequest(service="nobody")))
        assert unknown.code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("version", ["v1alpha", "v1"])
async def test_reflection_lists_and_describes_the_services(version: str) -> None:
    async with serving(Echo()) as running:
        stub: Any = running.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        call = stub()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = {service.name for service in (await call.read()).list_services_response.service}
        assert {SERVICE, "grpc.health.v1.Health", "grpc.channelz.v1.Channelz"} <= listed
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE))
        assert (await call.read()).file_descriptor_response.file_descriptor_proto
        await call.done_writing()
    assert reflection_pb2_grpc


async def test_channelz_knows_this_server_and_its_calls() -> None:
    async with serving(Echo()) as running:
        await running.probe.Unary(text(""), metadata=MESH)
        stub = channelz_pb2_grpc.ChannelzStub(running.channel)
        servers = (await stub.GetServers(channelz_pb2.GetServersRequest(), metadata=ADMIN)).server
        assert any(server.data.calls_started > 0 for server in servers)


async def test_channelz_is_for_operators() -> None:
    async with serving(Echo()) as running:
        stub = channelz_pb2_grpc.ChannelzStub(running.channel)
        refused = await failure(stub.GetServers(channelz_pb2.GetServersRequest()))
        assert refused.reason == "CREDENTIALS_MISSING"


@pytest.mark.parametrize(
    "name", ["GetServer", "GetServerSockets", "GetChannel", "GetSubchannel", "GetSocket"]
)
async def test_channelz_knows_no_such_id(name: str) -> None:
    async with serving(Echo()) as running:
        stub = channelz_pb2_grpc.ChannelzStub(running.channel)
        request = getattr(channelz_pb2, f"{name}Request")()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await getattr(stub, name)(request, metadata=ADMIN)
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND


class Flood(ProbeServicer):
    """Streams without end."""

    def __init__(self) -> None:
        self.ended = 0

    async def Down(self, _request: StringValue, _context: Any) -> AsyncIterator[StringValue]:
        try:
            while True:
                yield StringValue(value="x" * 100_000)
        finally:
            self.ended += 1

    async def until_ended(self, streams: int) -> None:
        await eventually(lambda: self.ended == streams, what=f"the end of {streams} streams")


@pytest.mark.parametrize("how", ["cancels", "is cut off"])
async def test_a_caller_who_leaves_in_the_middle_is_nobodys_failure(
    caplog: pytest.LogCaptureFixture, how: str
) -> None:
    flood = Flood()
    server = make_server()
    server.add(add_probe_to_server, flood)
    async with Running(server):
        with structlog.testing.capture_logs() as logs:
            for number in range(1, 21):
                async with relay_to(server.address) as relay, open_channel(relay.url) as channel:
                    call = ProbeStub(channel).Down(StringValue(), metadata=MESH)
                    await call.read()
                    if how == "cancels":
                        call.cancel()
                    else:
                        await relay.cut()
                    await flood.until_ended(number)
    assert [line for line in logs if line["log_level"] not in ("debug", "info")] == []
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
