"""A service with a method of every kind, described at run time, for tests of the server chassis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, wrappers_pb2
from google.protobuf.wrappers_pb2 import StringValue

from mesh_core.rpc.auth import KeyAuthenticator
from mesh_core.rpc.channels import mesh_metadata
from mesh_core.rpc.limits import Entry
from mesh_core.rpc.server import Server
from mesh_core.settings import AuthSettings, ServerSettings
from sessionmesh.v1 import authorization_pb2

SERVICE = "sessionmesh.test.v1.ProbeService"
MESH_KEY = "mesh-key-of-the-tests"
MESH = mesh_metadata(MESH_KEY)

_METHODS = {
    # name: (client streaming, server streaming, scope)
    "Unary": (False, False, authorization_pb2.SCOPE_SEND),
    "Down": (False, True, authorization_pb2.SCOPE_READ),
    "Up": (True, False, authorization_pb2.SCOPE_SEND),
    "Both": (True, True, authorization_pb2.SCOPE_SEND),
    "Public": (False, False, authorization_pb2.SCOPE_PUBLIC),
    "Operate": (False, False, authorization_pb2.SCOPE_OPERATOR),
    "Internal": (False, False, authorization_pb2.SCOPE_MESH),
    "Forgotten": (False, False, None),
    "Planned": (False, False, authorization_pb2.SCOPE_READ),
}

_CLASSES = {
    "Unary": authorization_pb2.CALL_CLASS_MESSAGE,
    "Down": authorization_pb2.CALL_CLASS_QUERY,
    "Up": authorization_pb2.CALL_CLASS_MESSAGE,
    "Operate": authorization_pb2.CALL_CLASS_INSTANCE_OPERATION,
}

Handlers = Mapping[str, Callable[..., Any]]


def _describe() -> None:
    file = descriptor_pb2.FileDescriptorProto(
        name="sessionmesh/test/v1/probe.proto", package="sessionmesh.test.v1", syntax="proto3"
    )
    file.dependency.extend([wrappers_pb2.DESCRIPTOR.name, authorization_pb2.DESCRIPTOR.name])
    service = file.service.add(name="ProbeService")
    for name, (up, down, scope) in _METHODS.items():
        method = service.method.add(
            name=name,
            input_type=".google.protobuf.StringValue",
            output_type=".google.protobuf.StringValue",
            client_streaming=up,
            server_streaming=down,
        )
        if scope is not None:
            method.options.Extensions[authorization_pb2.scope] = scope
        if name in _CLASSES:
            method.options.Extensions[authorization_pb2.call_class] = _CLASSES[name]
    descriptor_pool.Default().Add(file)


_describe()


class ProbeServicer:
    """As generated: methods that a subclass does not define are synchronous and raise."""

    def __getattr__(self, name: str) -> Callable[[Any, Any], Any]:
        if name not in _METHODS:
            raise AttributeError(name)

        def not_implemented(_request: Any, _context: Any) -> Any:
            raise NotImplementedError

        not_implemented.__module__ = "sessionmesh.test.v1.probe_pb2_grpc"
        return not_implemented


def add_probe_to_server(servicer: object, server: Any) -> None:
    """What the code generator writes for `ProbeService`."""
    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    handlers = {
        name: make[up, down](
            getattr(servicer, name),
            request_deserializer=StringValue.FromString,
            response_serializer=StringValue.SerializeToString,
        )
        for name, (up, down, _scope) in _METHODS.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)


class ProbeStub:
    """Calls of the service; each is a grpc.aio multicallable of `StringValue`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        make: dict[tuple[bool, bool], Any] = {
            (False, False): channel.unary_unary,
            (False, True): channel.unary_stream,
            (True, False): channel.stream_unary,
            (True, True): channel.stream_stream,
        }
        for name, (up, down, _scope) in _METHODS.items():
            call = make[up, down](
                f"/{SERVICE}/{name}",
                request_serializer=StringValue.SerializeToString,
                response_deserializer=StringValue.FromString,
            )
            setattr(self, name, call)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class Echo(ProbeServicer):
    """Answers what it is sent, in both styles that grpc.aio knows."""

    async def Unary(self, request: StringValue, _context: Any) -> StringValue:
        return request

    async def Public(self, request: StringValue, _context: Any) -> StringValue:
        return request

    async def Operate(self, request: StringValue, _context: Any) -> StringValue:
        return request

    async def Internal(self, request: StringValue, _context: Any) -> StringValue:
        return request

    async def Forgotten(self, request: StringValue, _context: Any) -> StringValue:
        return request

    async def Down(self, request: StringValue, _context: Any) -> AsyncIterator[StringValue]:
        for letter in request.value:
            yield StringValue(value=letter)

    async def Up(self, requests: AsyncIterator[StringValue], _context: Any) -> StringValue:
        return StringValue(value="".join([request.value async for request in requests]))

    async def Both(self, requests: AsyncIterator[StringValue], context: Any) -> None:
        async for request in requests:
            await context.write(request)


async def no_keys(_key_id: object) -> None:
    """A key table without keys."""


def make_server(
    settings: ServerSettings | None = None,
    lookup: Callable[..., Awaitable[Any]] = no_keys,
    entry: Entry | None = None,
) -> Server:
    """A server that knows the mesh key; not started."""
    authenticator = KeyAuthenticator(
        lookup, AuthSettings(mesh_key=MESH_KEY, bootstrap_key="bootstrap-key-of-the-tests")
    )
    return Server(settings or ServerSettings(), authenticator=authenticator, entry=entry)


ADMIN = mesh_metadata("bootstrap-key-of-the-tests")


async def letters(text: str) -> AsyncIterator[StringValue]:
    """A request stream."""
    for letter in text:
        yield StringValue(value=letter)
