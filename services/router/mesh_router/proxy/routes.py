"""The routing table, from the protos' descriptors: where a method goes, and whether it may be sent twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

# Imported for their descriptors.
from sessionmesh.admin.v1 import fleet_pb2  # noqa: F401
from sessionmesh.simulator.v1 import simulator_pb2  # noqa: F401
from sessionmesh.v1 import (  # noqa: F401
    account_pb2,
    audit_pb2,
    call_pb2,
    channel_pb2,
    chat_pb2,
    community_pb2,
    contact_pb2,
    event_pb2,
    group_pb2,
    job_pb2,
    media_pb2,
    message_pb2,
    presence_pb2,
    profile_pb2,
    server_pb2,
    session_pb2,
    template_pb2,
    tenant_pb2,
    webhook_pb2,
)


class Destination(Enum):
    """Who serves a method."""

    ROUTER = "router"
    OWNER = "owner"
    ANY_NODE = "node"
    MEDIA = "media"
    WEBHOOK = "webhook"
    SIMULATOR = "simulator"


@dataclass(frozen=True, slots=True)
class Route:
    """A forwarded method.

    `idempotent`: a request that is sent twice acts once, as the proto's `idempotency_level` says.
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
    for service, destination in SERVICES.items():
        described = descriptor_pool.Default().FindServiceByName(service)
        for method in described.methods:
            served_by = _METHODS.get(method.full_name, destination)
            if served_by is not Destination.ROUTER:
                yield Route(
                    described.full_name,
                    method.name,
                    served_by,
                    method.client_streaming,
                    method.server_streaming,
                    idempotent(method),
                    _batched(method),
                )


def idempotent(method: MethodDescriptor) -> bool:
    """Whether a call whose outcome nobody knows may be repeated."""
    return method.GetOptions().idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN


def _batched(method: MethodDescriptor) -> bool:
    """A page of a list can have megabytes, which would delay the responses behind it."""
    unary = not (method.client_streaming or method.server_streaming)
    return unary and "page_size" not in method.input_type.fields_by_name


KINDS = (Destination.MEDIA.value, Destination.WEBHOOK.value, Destination.SIMULATOR.value)
"""The kinds of services that are found in the service directory."""

SERVICES = {
    "sessionmesh.admin.v1.FleetService": Destination.ROUTER,
    "sessionmesh.simulator.v1.SimulatorService": Destination.SIMULATOR,
    "sessionmesh.v1.AccountService": Destination.ROUTER,
    "sessionmesh.v1.AuditService": Destination.ROUTER,
    "sessionmesh.v1.CallService": Destination.OWNER,
    "sessionmesh.v1.ChannelService": Destination.OWNER,
    "sessionmesh.v1.ChatService": Destination.OWNER,
    "sessionmesh.v1.CommunityService": Destination.OWNER,
    "sessionmesh.v1.ContactService": Destination.OWNER,
    "sessionmesh.v1.EventService": Destination.WEBHOOK,
    "sessionmesh.v1.GroupService": Destination.OWNER,
    "sessionmesh.v1.JobService": Destination.ROUTER,
    "sessionmesh.v1.MediaService": Destination.MEDIA,
    "sessionmesh.v1.MessageService": Destination.OWNER,
    "sessionmesh.v1.PresenceService": Destination.OWNER,
    "sessionmesh.v1.ProfileService": Destination.OWNER,
    "sessionmesh.v1.ServerService": Destination.ANY_NODE,
    "sessionmesh.v1.SessionService": Destination.OWNER,
    "sessionmesh.v1.TemplateService": Destination.OWNER,
    "sessionmesh.v1.TenantService": Destination.ROUTER,
    "sessionmesh.v1.WebhookService": Destination.WEBHOOK,
}
"""Every public service of the protos, by its full name, and who serves it."""

_METHODS = {
    "sessionmesh.v1.MessageService.BatchSendMessages": Destination.ROUTER,
    "sessionmesh.v1.MessageService.SendMessages": Destination.ROUTER,
    "sessionmesh.v1.SessionService.ListSessions": Destination.ANY_NODE,
}
"""Methods that are served by another part than the rest of their service."""
