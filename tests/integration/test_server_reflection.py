"""What reflection shows, and to whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from mesh_core.rpc.channels import Metadata, open_channel
from mesh_core.rpc.server import status
from sessionmesh.internal.v1 import node_pb2, peer_pb2
from sessionmesh.simnet.v1 import wire_pb2
from sessionmesh.v1 import account_pb2
from tests.support.probe_service import ADMIN, SERVICE, Echo, add_probe_to_server, make_server

PEERS = "sessionmesh.internal.v1.PeerService"
NOT_FOUND = grpc.StatusCode.NOT_FOUND.value[0]
INTERNAL = {
    "a service": ServerReflectionRequest(file_containing_symbol=PEERS),
    "a method": ServerReflectionRequest(file_containing_symbol=f"{PEERS}.OpenConnection"),
    "a message": ServerReflectionRequest(file_containing_symbol=peer_pb2.CallFrame.DESCRIPTOR.full_name),
    "a file": ServerReflectionRequest(file_by_filename=peer_pb2.DESCRIPTOR.name),
    "a file of another part": ServerReflectionRequest(file_by_filename=node_pb2.DESCRIPTOR.name),
    "the network's file": ServerReflectionRequest(file_by_filename=wire_pb2.DESCRIPTOR.name),
    "extensions": ServerReflectionRequest(
        all_extension_numbers_of_type=peer_pb2.CallFrame.DESCRIPTOR.full_name
    ),
}


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    server = make_server()
    server.add(add_probe_to_server, Echo())
    await server.start()
    async with open_channel(server.address) as opened:
        yield opened
    await server.stop()


async def ask(
    channel: grpc.aio.Channel,
    request: ServerReflectionRequest,
    metadata: Metadata = (),
    version: str = "v1",
) -> ServerReflectionResponse:
    """The answer to one request on a stream of its own."""
    stub: Any = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=ServerReflectionRequest.SerializeToString,
        response_deserializer=ServerReflectionResponse.FromString,
    )
    call = stub(metadata=metadata, timeout=20)
    await call.write(request)
    await call.done_writing()
    answer = await call.read()
    assert isinstance(answer, ServerReflectionResponse), await call.code()
    return answer


async def listed(channel: grpc.aio.Channel, metadata: Metadata = ()) -> set[str]:
    answer = await ask(channel, ServerReflectionRequest(list_services=""), metadata)
    return {service.name for service in answer.list_services_response.service}


@pytest.mark.parametrize("version", ["v1alpha", "v1"])
async def test_a_stranger_is_shown_public_services(channel: grpc.aio.Channel, version: str) -> None:
    for request in (
        ServerReflectionRequest(file_containing_symbol=SERVICE),
        ServerReflectionRequest(file_by_filename=account_pb2.DESCRIPTOR.name),
    ):
        answer = await ask(channel, request, version=version)
        assert answer.file_descriptor_response.file_descriptor_proto


async def test_a_stranger_is_told_of_no_internal_service(channel: grpc.aio.Channel) -> None:
    found = await listed(channel)
    assert {SERVICE, "grpc.health.v1.Health"} <= found
    assert not [name for name in found if name.startswith("sessionmesh.internal.")]


@pytest.mark.parametrize("kind", INTERNAL)
async def test_a_stranger_is_not_shown_what_is_internal(channel: grpc.aio.Channel, kind: str) -> None:
    answer = await ask(channel, INTERNAL[kind])
    assert answer.error_response.error_code == NOT_FOUND


async def test_an_operator_is_shown_what_is_internal(channel: grpc.aio.Channel) -> None:
    assert PEERS in await listed(channel, ADMIN)
    answer = await ask(channel, INTERNAL["a service"], ADMIN)
    assert answer.file_descriptor_response.file_descriptor_proto


async def test_a_key_that_is_none_is_refused(channel: grpc.aio.Channel) -> None:
    method: Any = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    call = method(metadata=(("authorization", "Bearer nonsense"),), timeout=20)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()
    assert status.from_rpc_error(refused.value).reason == "CREDENTIALS_INVALID"
