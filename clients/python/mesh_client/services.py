"""The services of the mesh as attributes of a client."""

from __future__ import annotations

from mesh_client.caller import Caller
from mesh_client.calls import service_calls

# The messages' modules are imported for their descriptors, too.
from sessionmesh.admin.v1 import fleet_pb2_grpc
from sessionmesh.simulator.v1 import simulator_pb2_grpc
from sessionmesh.v1 import (
    account_pb2_grpc,
    audit_pb2_grpc,
    call_pb2_grpc,
    channel_pb2_grpc,
    chat_pb2_grpc,
    community_pb2_grpc,
    contact_pb2_grpc,
    event_pb2_grpc,
    group_pb2_grpc,
    job_pb2_grpc,
    media_pb2_grpc,
    message_pb2_grpc,
    presence_pb2_grpc,
    profile_pb2_grpc,
    server_pb2_grpc,
    session_pb2_grpc,
    template_pb2_grpc,
    tenant_pb2_grpc,
    webhook_pb2_grpc,
)


class Services:
    """One attribute for each service, with the methods of its stub."""

    accounts: account_pb2_grpc.AccountServiceAsyncStub
    sessions: session_pb2_grpc.SessionServiceAsyncStub
    messages: message_pb2_grpc.MessageServiceAsyncStub
    chats: chat_pb2_grpc.ChatServiceAsyncStub
    contacts: contact_pb2_grpc.ContactServiceAsyncStub
    groups: group_pb2_grpc.GroupServiceAsyncStub
    communities: community_pb2_grpc.CommunityServiceAsyncStub
    channels: channel_pb2_grpc.ChannelServiceAsyncStub
    presence: presence_pb2_grpc.PresenceServiceAsyncStub
    profiles: profile_pb2_grpc.ProfileServiceAsyncStub
    calls: call_pb2_grpc.CallServiceAsyncStub
    templates: template_pb2_grpc.TemplateServiceAsyncStub
    media: media_pb2_grpc.MediaServiceAsyncStub
    webhooks: webhook_pb2_grpc.WebhookServiceAsyncStub
    events: event_pb2_grpc.EventServiceAsyncStub
    jobs: job_pb2_grpc.JobServiceAsyncStub
    tenants: tenant_pb2_grpc.TenantServiceAsyncStub
    audit: audit_pb2_grpc.AuditServiceAsyncStub
    server: server_pb2_grpc.ServerServiceAsyncStub
    fleet: fleet_pb2_grpc.FleetServiceAsyncStub
    simulator: simulator_pb2_grpc.SimulatorServiceAsyncStub

    def __init__(self, caller: Caller) -> None:
        for name, service in SERVICES.items():
            setattr(self, name, service_calls(caller, service))


SERVICES = {
    "accounts": "sessionmesh.v1.AccountService",
    "sessions": "sessionmesh.v1.SessionService",
    "messages": "sessionmesh.v1.MessageService",
    "chats": "sessionmesh.v1.ChatService",
    "contacts": "sessionmesh.v1.ContactService",
    "groups": "sessionmesh.v1.GroupService",
    "communities": "sessionmesh.v1.CommunityService",
    "channels": "sessionmesh.v1.ChannelService",
    "presence": "sessionmesh.v1.PresenceService",
    "profiles": "sessionmesh.v1.ProfileService",
    "calls": "sessionmesh.v1.CallService",
    "templates": "sessionmesh.v1.TemplateService",
    "media": "sessionmesh.v1.MediaService",
    "webhooks": "sessionmesh.v1.WebhookService",
    "events": "sessionmesh.v1.EventService",
    "jobs": "sessionmesh.v1.JobService",
    "tenants": "sessionmesh.v1.TenantService",
    "audit": "sessionmesh.v1.AuditService",
    "server": "sessionmesh.v1.ServerService",
    "fleet": "sessionmesh.admin.v1.FleetService",
    "simulator": "sessionmesh.simulator.v1.SimulatorService",
}
