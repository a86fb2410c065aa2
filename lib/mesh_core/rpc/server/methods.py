"""The methods of a server: found by their path, described by their protos."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import grpc
import structlog
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from mesh_core.rpc.audit import AuditedCall
from mesh_core.rpc.auth import AccountLimit
from mesh_core.rpc.server.calls import not_served, wrap
from mesh_core.rpc.server.gate import Gate, Method, RpcHandler, ServeBytes
from mesh_core.rpc.server.unknown_callers import known, reading_late
from sessionmesh.v1 import authorization_pb2
from sessionmesh.v1.authorization_pb2 import CALL_CLASS_UNSPECIFIED, SCOPE_UNSPECIFIED, CallClass, Scope

logger = structlog.get_logger(__name__)


class Methods(grpc.GenericRpcHandler):
    """All methods in one dictionary: gRPC asks it once per call."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._handlers: dict[str, RpcHandler] = {}
        self._reading_late: dict[str, RpcHandler] = {}
        """Of methods with one request, for calls whose request is not read as it comes."""
        self.services: set[str] = set()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> RpcHandler:
        """What gRPC calls for every call."""
        handler = self._handlers.get(handler_call_details.method)
        if handler is None:
            service, _, name = handler_call_details.method[1:].rpartition("/")
            stranger = known(self._gate, handler_call_details.invocation_metadata) is None
            return not_served(service, name, self._gate.refusals if stranger else None)
        if not handler.request_streaming:
            identity = known(self._gate, handler_call_details.invocation_metadata)
            if identity is None or not self._gate.bodies.begin(identity):
                return self._reading_late[handler_call_details.method]
        return handler

    def unary(self, path: str) -> ServeBytes:
        """The handler of a unary method, all that surrounds it included; for another one, what refuses it."""
        handler = self._handlers.get(path)
        serve: Any = handler.unary_unary if handler is not None else None
        if serve is None:
            service, _, name = path[1:].rpartition("/")
            serve = not_served(service, name).stream_stream
        return cast("ServeBytes", serve)

    def add_generated(
        self, add: Callable[[Any, Any], None], servicer: object, scope: Scope.ValueType | None
    ) -> None:
        """Take the handlers that a generated `add_...Servicer_to_server` makes of `servicer`."""
        capture = _Capture()
        add(servicer, capture)
        for service, handlers in capture.registered.items():
            for name, handler in handlers.items():
                self.put(service, name, handler, scope)

    def add_bytes(
        self, service: str, functions: Mapping[str, Callable[..., Any]], scope: Scope.ValueType | None
    ) -> None:
        """Serve methods with functions of bytes; the proto says which kind each is."""
        for name, function in functions.items():
            described = describe(service).methods_by_name[name]
            kind = described.client_streaming, described.server_streaming
            self.put(service, name, _BYTES[kind](function), scope)

    def put(self, service: str, name: str, handler: RpcHandler, scope: Scope.ValueType | None) -> None:
        """Serve one method; the one put last wins."""
        described = describe(service).methods_by_name[name]
        if scope is None:
            scope = described.GetOptions().Extensions[authorization_pb2.scope]
            if scope == SCOPE_UNSPECIFIED:
                logger.warning(
                    "method has no scope and is refused to everybody", service=service, method=name
                )
        takes_stream, streams = described.client_streaming, described.server_streaming
        method = Method(
            service,
            name,
            scope,
            takes_stream,
            streams,
            AccountLimit.of(described),
            _call_class(described),
            _names_account(described),
            AuditedCall.of(described),
        )
        wrapped = self._handlers[method.path] = wrap(handler, method, self._gate)
        if not wrapped.request_streaming:
            self._reading_late[method.path] = reading_late(wrapped, method, self._gate)
        self.services.add(service)

    def alias(self, service: str, other: str) -> None:
        """Serve the methods of `service` under another name too."""
        for path, handler in list(self._handlers.items()):
            if path.startswith(f"/{service}/"):
                self._handlers[f"/{other}/{path.rpartition('/')[2]}"] = handler


def describe(service: str) -> ServiceDescriptor:
    """The descriptor of a service whose generated module is imported; raises `KeyError` for another."""
    return descriptor_pool.Default().FindServiceByName(service)


def _names_account(method: MethodDescriptor) -> bool:
    field = method.input_type.fields_by_number.get(1)
    return field is not None and field.name == "account_id" and not method.client_streaming


def _call_class(method: MethodDescriptor) -> CallClass.ValueType:
    """As the proto says, but of a method that takes messages of any accounts: who serves it counts each."""
    for field in method.input_type.fields:
        inside = field.message_type
        if field.is_repeated and inside is not None and "account_id" in inside.fields_by_name:
            return CALL_CLASS_UNSPECIFIED
    call_class: CallClass.ValueType = method.GetOptions().Extensions[authorization_pb2.call_class]
    return call_class


@dataclass(slots=True)
class _Details:
    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...] = ()


class _Capture:
    """Stands in for the server that generated code adds its handlers to."""

    def __init__(self) -> None:
        self.registered: dict[str, Mapping[str, RpcHandler]] = {}

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, RpcHandler]) -> None:
        self.registered[service] = handlers

    def add_generic_rpc_handlers(self, generic_handlers: Sequence[grpc.ServiceRpcHandler]) -> None:
        """Stubs of older generators call only this one."""
        for generic in generic_handlers:
            service = generic.service_name()
            found = {
                method.name: generic.service(_Details(f"/{service}/{method.name}"))
                for method in describe(service).methods
            }
            self.registered[service] = {name: handler for name, handler in found.items() if handler}


_BYTES: dict[tuple[bool, bool], Callable[..., RpcHandler]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
