"""The routing table, from the protos' descriptors: where a method goes, and whether it may be sent twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

# Imported for their descriptors.
from sessionmesh.simulator.v1 import simulator_pb2  # noqa: F401
from sessionmesh.v1 import (  # noqa: F401
    authorization_pb2,
    chat_pb2,
    contact_pb2,
    event_pb2,
    group_pb2,
    media_pb2,
    message_pb2,
    session_pb2,
    webhook_pb2,
)


class Destination(Enum):
    """Who serves a method."""

    OWNER = "owner"
    ANY_NODE = "node"
    MEDIA = "media"
    WEBHOOK = "webhook"
    SIMULATOR = "simulator"


@dataclass(frozen=True, slots=True)
class Route:
    """A forwarded method.

    `idempotent`: a request that is sent twice acts once, as the method reads, or has a request id.
    `batched`: calls may share frames, as the method is unary and its responses are small.
    """

    service: str
    name: str
    destination: Destination
    request_streaming: bool
    response_streaming: bool
    idempotent: bool
    batched: bool

    @property
    def path(self) -> str:
        """As on the wire: /service/name."""
        return f"/{self.service}/{self.name}"


def routes() -> Iterator[Route]:
    """Every method that the router forwards."""
    for service, destination in _SERVICES.items():
        described = descriptor_pool.Default().FindServiceByName(SERVICE.format(service))
        for method in described.methods:
            if method.name not in _NOT_FORWARDED:
                yield Route(
                    described.full_name,
                    method.name,
                    _METHODS.get((service, method.name), destination),
                    method.client_streaming,
                    method.server_streaming,
                    _idempotent(method),
                    _batched(method),
                )


def _idempotent(method: MethodDescriptor) -> bool:
    reads = method.GetOptions().Extensions[authorization_pb2.scope] == authorization_pb2.SCOPE_READ
    return reads or "request_id" in method.input_type.fields_by_name


def _batched(method: MethodDescriptor) -> bool:
    """A page of a list can have megabytes, which would delay the responses behind it."""
    unary = not (method.client_streaming or method.server_streaming)
    return unary and "page_size" not in method.input_type.fields_by_name


SERVICE = "sessionmesh.v1.{}"
"""The full name of one of our services."""

KINDS = (Destination.MEDIA.value, Destination.WEBHOOK.value, Destination.SIMULATOR.value)
"""The kinds of services that are found in the service directory."""

_SERVICES = {
    "SessionService": Destination.OWNER,
    "MessageService": Destination.OWNER,
    "ContactService": Destination.OWNER,
    "GroupService": Destination.OWNER,
    "ChatService": Destination.OWNER,
    "MediaService": Destination.MEDIA,
    "WebhookService": Destination.WEBHOOK,
    "EventService": Destination.WEBHOOK,
    "SimulatorService": Destination.SIMULATOR,
}
_METHODS = {("SessionService", "ListSessions"): Destination.ANY_NODE}
_NOT_FORWARDED = frozenset({"SendMessages"})
