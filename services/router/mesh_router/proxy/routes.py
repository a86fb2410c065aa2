"""Which service goes where, and which of its methods may be sent twice. All from the protos' descriptors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor

# Imported for their descriptors.
from sessionmesh.v1 import (  # noqa: F401
    authorization_pb2,
    chat_pb2,
    contact_pb2,
    event_pb2,
    group_pb2,
    media_pb2,
    message_pb2,
    session_pb2,
    simulator_pb2,
    webhook_pb2,
)


class Toward(Enum):
    """Who serves a method."""

    OWNER = "owner"
    ANY_NODE = "node"
    MEDIA = "media"
    WEBHOOK = "webhook"
    SIMULATOR = "simulator"


@dataclass(frozen=True, slots=True)
class Route:
    """A forwarded method.

    `repeatable` says that sending a request twice acts once: the method reads, or has a request id.
    `batched` says that its calls may share frames: it is unary, and its answers are small.
    """

    service: str
    name: str
    toward: Toward
    request_streaming: bool
    response_streaming: bool
    repeatable: bool
    batched: bool

    @property
    def path(self) -> str:
        """As on the wire."""
        return f"/{self.service}/{self.name}"


def routes() -> Iterator[Route]:
    """Every method that the router forwards."""
    for service, toward in _SERVICES.items():
        described = descriptor_pool.Default().FindServiceByName(SERVICE.format(service))
        for method in described.methods:
            if method.name not in _NOT_FORWARDED:
                yield Route(
                    described.full_name,
                    method.name,
                    _METHODS.get((service, method.name), toward),
                    method.client_streaming,
                    method.server_streaming,
                    _repeatable(method),
                    _gathered(method),
                )


def _repeatable(method: MethodDescriptor) -> bool:
    reads = method.GetOptions().Extensions[authorization_pb2.scope] == authorization_pb2.SCOPE_READ
    return reads or "request_id" in method.input_type.fields_by_name


def _gathered(method: MethodDescriptor) -> bool:
    """A page of a list can be megabytes, which would hold up the answers behind it."""
    unary = not (method.client_streaming or method.server_streaming)
    return unary and "page_size" not in method.input_type.fields_by_name


SERVICE = "sessionmesh.v1.{}"
"""The full name of one of our services."""

KINDS = (Toward.MEDIA.value, Toward.WEBHOOK.value, Toward.SIMULATOR.value)
"""The kinds of services that are found in the service directory."""

_SERVICES = {
    "SessionService": Toward.OWNER,
    "MessageService": Toward.OWNER,
    "ContactService": Toward.OWNER,
    "GroupService": Toward.OWNER,
    "ChatService": Toward.OWNER,
    "MediaService": Toward.MEDIA,
    "WebhookService": Toward.WEBHOOK,
    "EventService": Toward.WEBHOOK,
    "SimulatorService": Toward.SIMULATOR,
}
_METHODS = {("SessionService", "ListSessions"): Toward.ANY_NODE}
_NOT_FORWARDED = frozenset({"SendMessages"})
