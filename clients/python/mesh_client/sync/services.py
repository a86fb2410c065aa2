"""The services of the mesh as attributes of a client that waits."""

from __future__ import annotations

from mesh_client.services import SERVICES, Services
from mesh_client.sync.calls import sync_calls
from mesh_client.sync.loop import LoopThread
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


class SyncServices:
    """One attribute for each service, with the methods of its stub."""

    accounts: account_pb2_grpc.AccountServiceStub
    tenants: tenant_pb2_grpc.TenantServiceStub
    fleet: fleet_pb2_grpc.FleetServiceStub
    jobs: job_pb2_grpc.JobServiceStub
    sessions: session_pb2_grpc.SessionServiceStub
    messages: message_pb2_grpc.MessageServiceStub
    contacts: contact_pb2_grpc.ContactServiceStub
    groups: group_pb2_grpc.GroupServiceStub
    chats: chat_pb2_grpc.ChatServiceStub
    media: media_pb2_grpc.MediaServiceStub
    webhooks: webhook_pb2_grpc.WebhookServiceStub
    events: event_pb2_grpc.EventServiceStub
    simulator: simulator_pb2_grpc.SimulatorServiceStub

    def __init__(self, thread: LoopThread, services: Services) -> None:
        for name, service in SERVICES.items():
            setattr(self, name, sync_calls(thread, getattr(services, name), service))
