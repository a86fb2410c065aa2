"""The services of the mesh as attributes of a client."""

from __future__ import annotations

from mesh_client.caller import Caller
from mesh_client.calls import service_calls

# The messages' modules are imported for their descriptors, too.
from sessionmesh.admin.v1 import fleet_pb2_grpc
from sessionmesh.simulator.v1 import simulator_pb2_grpc
from sessionmesh.v1 import (
    account_pb2_grpc,
    chat_pb2_grpc,
    contact_pb2_grpc,
    event_pb2_grpc,
    group_pb2_grpc,
    job_pb2_grpc,
    media_pb2_grpc,
    message_pb2_grpc,
    session_pb2_grpc,
    tenant_pb2_grpc,
    webhook_pb2_grpc,
)


class Services:
    """One attribute for each service, with the methods of its stub."""

    accounts: account_pb2_grpc.AccountServiceAsyncStub
    tenants: tenant_pb2_grpc.TenantServiceAsyncStub
    fleet: fleet_pb2_grpc.FleetServiceAsyncStub
    jobs: job_pb2_grpc.JobServiceAsyncStub
    sessions: session_pb2_grpc.SessionServiceAsyncStub
    messages: message_pb2_grpc.MessageServiceAsyncStub
    contacts: contact_pb2_grpc.ContactServiceAsyncStub
    groups: group_pb2_grpc.GroupServiceAsyncStub
    chats: chat_pb2_grpc.ChatServiceAsyncStub
    media: media_pb2_grpc.MediaServiceAsyncStub
    webhooks: webhook_pb2_grpc.WebhookServiceAsyncStub
    events: event_pb2_grpc.EventServiceAsyncStub
    simulator: simulator_pb2_grpc.SimulatorServiceAsyncStub

    def __init__(self, caller: Caller) -> None:
        for name, service in SERVICES.items():
            setattr(self, name, service_calls(caller, service))


SERVICES = {
    "accounts": "AccountService",
    "tenants": "TenantService",
    "fleet": "FleetService",
    "jobs": "JobService",
    "sessions": "SessionService",
    "messages": "MessageService",
    "contacts": "ContactService",
    "groups": "GroupService",
    "chats": "ChatService",
    "media": "MediaService",
    "webhooks": "WebhookService",
    "events": "EventService",
    "simulator": "SimulatorService",
}
