"""The methods of the API as the client knows them, all from the protos' descriptors."""

from __future__ import annotations

from dataclasses import dataclass

from google.api import field_behavior_pb2
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message


@dataclass(frozen=True, slots=True)
class Method:
    """One method.

    `kind` is gRPC's name of its shape, such as `unary_stream`; `repeatable` says that sending a request twice
    acts once, as its `idempotency_level` promises. `by_account` says that the request must name an account,
    `request_id` that it has a request id.
    """

    path: str
    kind: str
    request: type[Message]
    response: type[Message]
    repeatable: bool
    by_account: bool
    request_id: bool

    @property
    def name(self) -> str:
        """Without its service."""
        return self.path.rpartition("/")[2]


def methods_of(service: str) -> dict[str, Method]:
    """The methods of a service by name; `service` is its full name. Its module must have been imported."""
    described = descriptor_pool.Default().FindServiceByName(service)
    return {method.name: _method(method) for method in described.methods}


def _method(method: MethodDescriptor) -> Method:
    fields = method.input_type.fields_by_name
    account = fields.get("account_id")
    return Method(
        path=f"/{method.containing_service.full_name}/{method.name}",
        kind=_KINDS[method.client_streaming, method.server_streaming],
        request=message_factory.GetMessageClass(method.input_type),
        response=message_factory.GetMessageClass(method.output_type),
        repeatable=method.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN,
        by_account=account is not None and _required(account),
        request_id="request_id" in fields,
    )


def _required(field: FieldDescriptor) -> bool:
    behaviours = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.REQUIRED in behaviours


_KINDS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}
