"""Callers of a running mesh: generated stubs, an address and a key, as any backend has them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from sessionmesh.admin.v1 import fleet_pb2_grpc
from sessionmesh.simulator.v1 import simulator_pb2, simulator_pb2_grpc
from sessionmesh.v1 import (
    account_pb2,
    account_pb2_grpc,
    authorization_pb2,
    chat_pb2_grpc,
    common_pb2,
    contact_pb2_grpc,
    content_pb2,
    event_pb2_grpc,
    media_pb2,
    media_pb2_grpc,
    message_pb2,
    message_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
    tenant_pb2,
    tenant_pb2_grpc,
    webhook_pb2,
    webhook_pb2_grpc,
)
from tests.support.eventually import eventually

CHUNK = 64 * 1024
CALL_SECONDS = 30.0
SCOPES = (authorization_pb2.SCOPE_READ, authorization_pb2.SCOPE_SEND, authorization_pb2.SCOPE_MANAGE)
"""Of a customer's key."""
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as a caller sees it."""

    code: grpc.StatusCode
    reason: str = ""
    fields: tuple[str, ...] = ()
    message: str = ""


@dataclass(slots=True)
class Caller:
    """Somebody with a key. `caller(caller.messages.GetMessage, request)` makes a call."""

    channel: grpc.aio.Channel
    metadata: Metadata
    accounts: Any = field(init=False)
    chats: Any = field(init=False)
    contacts: Any = field(init=False)
    events: Any = field(init=False)
    fleet: Any = field(init=False)
    media: Any = field(init=False)
    messages: Any = field(init=False)
    sessions: Any = field(init=False)
    simulator: Any = field(init=False)
    tenants: Any = field(init=False)
    webhooks: Any = field(init=False)

    def __post_init__(self) -> None:
        self.accounts = account_pb2_grpc.AccountServiceStub(self.channel)
        self.chats = chat_pb2_grpc.ChatServiceStub(self.channel)
        self.contacts = contact_pb2_grpc.ContactServiceStub(self.channel)
        self.events = event_pb2_grpc.EventServiceStub(self.channel)
        self.fleet = fleet_pb2_grpc.FleetServiceStub(self.channel)
        self.media = media_pb2_grpc.MediaServiceStub(self.channel)
        self.messages = message_pb2_grpc.MessageServiceStub(self.channel)
        self.sessions = session_pb2_grpc.SessionServiceStub(self.channel)
        self.simulator = simulator_pb2_grpc.SimulatorServiceStub(self.channel)
        self.tenants = tenant_pb2_grpc.TenantServiceStub(self.channel)
        self.webhooks = webhook_pb2_grpc.WebhookServiceStub(self.channel)

    @property
    def key(self) -> str:
        return dict(self.metadata)["authorization"].removeprefix("Bearer ")

    async def __call__(
        self, method: Any, request: Message, *, metadata: Metadata = (), timeout: float = CALL_SECONDS
    ) -> Any:
        """The response of a unary call."""
        return await method(request, metadata=self.metadata + metadata, timeout=timeout)

    async def refused(self, method: Any, request: Message, *, metadata: Metadata = ()) -> Refusal:
        """The error of a unary call that must fail."""
        try:
            answer = await self(method, request, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return refusal_of(error)
        raise AssertionError(f"answered: {answer}")

    def with_key(self, key: str) -> Caller:
        """Another caller on the same channel; without a key for ""."""
        return Caller(self.channel, (("authorization", f"Bearer {key}"),) if key else ())

    async def new_tenant(self) -> tuple[str, Caller]:
        """A new tenant's id, and a caller with its key. For an administrator."""
        tenant = tenant_pb2.Tenant(external_id=unique("tenant"))
        request = tenant_pb2.CreateTenantRequest(request_id=unique(), tenant=tenant)
        made = await self(self.tenants.CreateTenant, request)
        key = tenant_pb2.CreateApiKeyRequest(request_id=unique(), tenant_id=made.tenant.id, scopes=SCOPES)
        return made.tenant.id, self.with_key((await self(self.tenants.CreateApiKey, key)).secret)

    async def new_account(self, **fields: Any) -> account_pb2.Account:
        """An account of the caller's tenant, with a number of its own."""
        account = account_pb2.Account(phone=f"+4917{secrets.randbelow(10**9):09}", **fields)
        request = account_pb2.CreateAccountRequest(request_id=unique(), account=account)
        made: account_pb2.Account = (await self(self.accounts.CreateAccount, request)).account
        return made

    async def pair(self, account: account_pb2.Account, operator: Caller) -> None:
        """Pair by QR, which `operator` accepts on the simulated network, and wait until it is online."""
        request = session_pb2.PairRequest(account_id=account.id, request_id=unique())
        steps: list[str | None] = []
        while steps[-1:] != ["paired"]:
            try:
                async for step in self.sessions.Pair(request, metadata=self.metadata, timeout=CALL_SECONDS):
                    request.attempt_id = step.attempt_id
                    steps.append(step.WhichOneof("step"))
                    if steps[-1] == "qr":
                        scan = simulator_pb2.AcceptPairingRequest(qr=step.qr.text, phone=account.phone)
                        await operator(operator.simulator.AcceptPairing, scan)
                assert steps[-1] == "paired", steps
            except grpc.aio.AioRpcError as error:
                if (
                    error.code() is not grpc.StatusCode.UNAVAILABLE
                ):  # else its shard moved: the attempt goes on
                    raise
        await self.until_online(account.id)

    async def until_online(self, account_id: str, seconds: float = 30.0) -> session_pb2.Session:
        """The account's session, once it is CONNECTED."""

        async def online() -> session_pb2.Session | None:
            request = session_pb2.GetSessionRequest(account_id=account_id)
            session: session_pb2.Session = (await self(self.sessions.GetSession, request)).session
            return session if session.state == session_pb2.SESSION_STATE_CONNECTED else None

        return await eventually(online, seconds, f"{account_id} online")

    async def send(self, request: message_pb2.SendMessageRequest) -> message_pb2.Message:
        answer = await self(self.messages.SendMessage, request)
        message: message_pb2.Message = answer.message
        return message

    async def message(self, account_id: str, message_id: str) -> message_pb2.Message:
        request = message_pb2.GetMessageRequest(
            account_id=account_id, message=common_pb2.MessageRef(message_id=message_id)
        )
        message: message_pb2.Message = (await self(self.messages.GetMessage, request)).message
        return message

    async def until_delivered(
        self, account_id: str, message_id: str, seconds: float = 30.0
    ) -> message_pb2.Message:
        """The message, once it is DELIVERED."""

        async def delivered() -> message_pb2.Message | None:
            message = await self.message(account_id, message_id)
            return message if message.status == message_pb2.MESSAGE_STATUS_DELIVERED else None

        return await eventually(delivered, seconds, f"{message_id} delivered")

    async def upload(self, data: bytes, file_name: str) -> media_pb2.Media:
        """Store a file for the caller's tenant."""
        header = media_pb2.UploadHeader(
            request_id=unique(),
            size_bytes=len(data),
            options=media_pb2.StorageOptions(file_name=file_name),
        )
        frames = [media_pb2.UploadMediaRequest(header=header)]
        frames += [
            media_pb2.UploadMediaRequest(chunk=data[at : at + CHUNK]) for at in range(0, len(data), CHUNK)
        ]
        answer = await self.media.UploadMedia(_frames(frames), metadata=self.metadata, timeout=CALL_SECONDS)
        media: media_pb2.Media = answer.media
        return media

    async def new_endpoint(self, url: str, *event_types: str) -> str:
        """A webhook endpoint; its secret."""
        endpoint = webhook_pb2.Endpoint(url=url, event_types=event_types)
        request = webhook_pb2.CreateEndpointRequest(request_id=unique(), endpoint=endpoint)
        return str((await self(self.webhooks.CreateEndpoint, request)).secret)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant, and a caller with its key."""

    id: str
    caller: Caller


@asynccontextmanager
async def open_caller(address: str, key: str) -> AsyncIterator[Caller]:
    """A caller with a channel of its own."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 200)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield Caller(channel, (("authorization", f"Bearer {key}"),))


def text_message(account_id: str, body: str = "Hello", **fields: Any) -> message_pb2.SendMessageRequest:
    """A text to a number that is nobody's account, with a new request id."""
    fields.setdefault("request_id", unique())
    fields.setdefault("recipient", "phone:+4915112345678")
    content = content_pb2.Content(text=content_pb2.TextContent(body=body))
    return message_pb2.SendMessageRequest(account_id=account_id, content=content, **fields)


def unique(prefix: str = "request") -> str:
    return f"{prefix}-{secrets.token_hex(8)}"


def refusal_of(error: grpc.aio.AioRpcError) -> Refusal:
    """Code, reason and fields of a failed call."""
    reason, fields = "", []
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin" or not isinstance(value, bytes):
            continue
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        for packed in status_pb2.Status.FromString(value).details:
            if packed.Unpack(info):
                reason = info.reason
            elif packed.Unpack(bad):
                fields += [violation.field for violation in bad.field_violations]
    return Refusal(error.code(), reason, tuple(fields), error.details() or "")


async def _frames(frames: Iterable[Message]) -> AsyncIterator[Message]:
    for frame in frames:
        yield frame
