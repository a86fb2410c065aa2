"""The methods of the API as the client knows them, all from the protos' descriptors."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from sessionmesh.v1 import authorization_pb2


@dataclass(frozen=True, slots=True)
class Method:
    """One method.

    `kind` is gRPC's name of its shape, such as `unary_stream`; `repeatable` says that sending a request twice
    acts once: it reads, or has a request id. `by_account` says that the request must name an account.
    """

    path: str
    kind: str
    request: type[Message]
    response: type[Message]
    repeatable: bool
    by_account: bool

    @property
    def name(self) -> str:
        """Without its service."""
        return self.path.rpartition("/")[2]


def methods_of(service: str) -> dict[str, Method]:
    """The methods of a service by name; `service` is without package. Its module must have been imported."""
    described = descriptor_pool.Default().FindServiceByName(f"sessionmesh.v1.{service}")
    return {method.name: _method(method) for method in described.methods}


def _method(method: MethodDescriptor) -> Method:
    account = method.input_type.fields_by_name.get("account_id")
    request_id = "request_id" in method.input_type.fields_by_name
    reads = method.GetOptions().Extensions[authorization_pb2.scope] == authorization_pb2.SCOPE_READ
    return Method(
        path=f"/{method.containing_service.full_name}/{method.name}",
        kind=_KINDS[method.client_streaming, method.server_streaming],
        request=message_factory.GetMessageClass(method.input_type),
        response=message_factory.GetMessageClass(method.output_type),
        repeatable=request_id or reads or method.name in _READS,
        by_account=account is not None and account.number == 1 and account.containing_oneof is None,
    )


_KINDS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}
# Operators' methods that read, whose scope does not say so.
_READS = frozenset(
    {
        "GetCapacity",
        "GetNetworkAccount",
        "GetNetworkStats",
        "GetPlacement",
        "GetVerdict",
        "ListApiKeys",
        "ListNetworkAccounts",
        "ListNodes",
        "ListTenants",
        "PlanCapacity",
        "WatchFleet",
        "WatchPresence",
    }
)
