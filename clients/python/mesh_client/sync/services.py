"""The services of the mesh as attributes of a client that waits."""

from __future__ import annotations

from mesh_client.services import SERVICES, Services
from mesh_client.sync.calls import sync_calls
from mesh_client.sync.loop import LoopThread
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


class SyncServices:
    """One attribute for each service, with the methods of its stub."""

    accounts: account_pb2_grpc.AccountServiceStub
    sessions: session_pb2_grpc.SessionServiceStub
    messages: message_pb2_grpc.MessageServiceStub
    chats: chat_pb2_grpc.ChatServiceStub
    contacts: contact_pb2_grpc.ContactServiceStub
    groups: group_pb2_grpc.GroupServiceStub
    communities: community_pb2_grpc.CommunityServiceStub
    channels: channel_pb2_grpc.ChannelServiceStub
    presence: presence_pb2_grpc.PresenceServiceStub
    profiles: profile_pb2_grpc.ProfileServiceStub
    calls: call_pb2_grpc.CallServiceStub
    templates: template_pb2_grpc.TemplateServiceStub
    media: media_pb2_grpc.MediaServiceStub
    webhooks: webhook_pb2_grpc.WebhookServiceStub
    events: event_pb2_grpc.EventServiceStub
    jobs: job_pb2_grpc.JobServiceStub
    tenants: tenant_pb2_grpc.TenantServiceStub
    audit: audit_pb2_grpc.AuditServiceStub
    server: server_pb2_grpc.ServerServiceStub
    fleet: fleet_pb2_grpc.FleetServiceStub
    simulator: simulator_pb2_grpc.SimulatorServiceStub

    def __init__(self, thread: LoopThread, services: Services) -> None:
        for name, service in SERVICES.items():
            setattr(self, name, sync_calls(thread, getattr(services, name), service))
