"""The client: one attribute per service, and short forms of what is done most."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mesh_client.calls import Caller, service_calls
from mesh_client.media import BytesSource, FileSource, download, sha256_of, upload
from mesh_client.transport import Tls, open_channel
from sessionmesh.v1 import (
    account_pb2,
    account_pb2_grpc,
    chat_pb2,
    chat_pb2_grpc,
    common_pb2,
    contact_pb2,
    contact_pb2_grpc,
    content_pb2,
    event_pb2,
    event_pb2_grpc,
    fleet_pb2,
    fleet_pb2_grpc,
    group_pb2,
    group_pb2_grpc,
    job_pb2,
    job_pb2_grpc,
    media_pb2,
    media_pb2_grpc,
    message_pb2,
    message_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
    simulator_pb2,
    simulator_pb2_grpc,
    tenant_pb2,
    tenant_pb2_grpc,
    webhook_pb2,
    webhook_pb2_grpc,
)


def connect(target: str, api_key: str, *, tls: Tls | None = None) -> Client:
    """A client of the mesh at `target` (host:port) that speaks for `api_key`: for `async with`."""
    return Client(target, api_key, tls)


class Client:
    """Calls the mesh for one API key.

    Each service is an attribute whose methods take the request and, as keywords, `timeout` in seconds and
    more `metadata`: `await client.accounts.GetAccount(request)`. Streaming methods return a `Stream` at once.
    A required `request_id` that is empty is filled in. Failures are `MeshCallError`.
    """

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

    def __init__(self, target: str, api_key: str, tls: Tls | None = None) -> None:
        self._caller = Caller(open_channel(target, tls), api_key)
        for name, (stub, module, service) in _SERVICES.items():
            descriptor = module.DESCRIPTOR.services_by_name[service]
            setattr(self, name, service_calls(self._caller, stub, descriptor))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls on it are cancelled."""
        await self._caller.channel.close()

    async def get_account(self, account_id: str) -> account_pb2.Account:
        """The account."""
        response = await self.accounts.GetAccount(account_pb2.GetAccountRequest(account_id=account_id))
        return response.account

    async def send_text(
        self,
        account_id: str,
        to: str | common_pb2.Recipient,
        text: str,
        *,
        request_id: str = "",
        wait_for: message_pb2.WaitFor.ValueType = message_pb2.WAIT_FOR_QUEUED,
        timeout: float | None = None,
    ) -> message_pb2.Message:
        """Send `text` to a phone number in E.164, or to any recipient; the message as accepted."""
        recipient = common_pb2.Recipient(phone=to) if isinstance(to, str) else to
        request = message_pb2.SendMessageRequest(
            account_id=account_id,
            request_id=request_id,
            recipient=recipient,
            content=content_pb2.Content(text=content_pb2.TextContent(body=text)),
            wait_for=wait_for,
        )
        return (await self.messages.SendMessage(request, timeout=timeout)).message

    async def upload(
        self,
        source: Path | bytes,
        *,
        file_name: str = "",
        mime_type: str = "",
        tenant_id: str = "",
        keep_original: bool = False,
        timeout: float = 300.0,
    ) -> media_pb2.Media:
        """Store a file, or bytes; the media once it is READY. Only administrators give `tenant_id`."""
        content = BytesSource(source) if isinstance(source, bytes) else FileSource(source)
        header = media_pb2.UploadHeader(
            tenant_id=tenant_id,
            mime_type=mime_type,
            sha256=sha256_of(content),
            file_name=file_name or ("" if isinstance(source, bytes) else source.name),
            keep_original=keep_original,
        )
        return await upload(self._caller, content, header, timeout)

    async def download(self, media_id: str, *, timeout: float | None = 300.0) -> bytes:
        """The media's stored bytes."""
        return b"".join([chunk async for chunk in self.download_chunks(media_id, timeout=timeout)])

    def download_chunks(self, media_id: str, *, timeout: float | None = None) -> AsyncIterator[bytes]:
        """The same, chunk by chunk."""
        return download(self._caller, media_id, timeout)


_SERVICES: dict[str, tuple[Any, Any, str]] = {
    "accounts": (account_pb2_grpc.AccountServiceStub, account_pb2, "AccountService"),
    "tenants": (tenant_pb2_grpc.TenantServiceStub, tenant_pb2, "TenantService"),
    "fleet": (fleet_pb2_grpc.FleetServiceStub, fleet_pb2, "FleetService"),
    "jobs": (job_pb2_grpc.JobServiceStub, job_pb2, "JobService"),
    "sessions": (session_pb2_grpc.SessionServiceStub, session_pb2, "SessionService"),
    "messages": (message_pb2_grpc.MessageServiceStub, message_pb2, "MessageService"),
    "contacts": (contact_pb2_grpc.ContactServiceStub, contact_pb2, "ContactService"),
    "groups": (group_pb2_grpc.GroupServiceStub, group_pb2, "GroupService"),
    "chats": (chat_pb2_grpc.ChatServiceStub, chat_pb2, "ChatService"),
    "media": (media_pb2_grpc.MediaServiceStub, media_pb2, "MediaService"),
    "webhooks": (webhook_pb2_grpc.WebhookServiceStub, webhook_pb2, "WebhookService"),
    "events": (event_pb2_grpc.EventServiceStub, event_pb2, "EventService"),
    "simulator": (simulator_pb2_grpc.SimulatorServiceStub, simulator_pb2, "SimulatorService"),
}
