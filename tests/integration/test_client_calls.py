"""The Python client against a router."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc import StatusCode

from mesh_client import Client, MeshCallError, connect
from mesh_core.errors import FailedPrecondition, Unavailable
from sessionmesh.v1 import (
    account_pb2,
    media_pb2,
    media_pb2_grpc,
    message_pb2,
    message_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
    tenant_pb2,
)
from tests.support.router_world import ADMIN_KEY, RouterWorld, new_account, router_world


@pytest.fixture
async def world(postgres_url: str, etcd: str, cluster: str) -> AsyncIterator[RouterWorld]:
    async with router_world(postgres_url, etcd, cluster) as running:
        yield running


@pytest.fixture
async def client(world: RouterWorld) -> AsyncIterator[Client]:
    async with connect(world.address, ADMIN_KEY) as connected:
        yield connected


class Messages(message_pb2_grpc.MessageServiceServicer):
    """Remembers what was asked, and answers with what `answer` does."""

    def __init__(self, answer: Callable[[], Awaitable[None]] | None = None) -> None:
        self.requests: list[message_pb2.SendMessageRequest] = []
        self.metadata: dict[str, Any] = {}
        self._answer = answer

    async def SendMessage(
        self, request: message_pb2.SendMessageRequest, context: Any
    ) -> message_pb2.SendMessageResponse:
        self.requests.append(request)
        self.metadata = dict(context.invocation_metadata())
        if self._answer is not None:
            await self._answer()
        return message_pb2.SendMessageResponse(message=message_pb2.Message(id="msg_1"))


async def owned(world: RouterWorld, messages: Messages) -> str:
    account = new_account()
    node = await world.node("n1", {message_pb2_grpc.add_MessageServiceServicer_to_server: messages})
    await node.own(account)
    return account


async def test_a_text_is_sent_with_all_that_a_call_needs(world: RouterWorld, client: Client) -> None:
    messages = Messages()
    account = await owned(world, messages)
    message = await client.send_text(account, "+4915112345678", "Hello")
    assert message.id == "msg_1"
    [request] = messages.requests
    assert request.content.text.body == "Hello"
    assert request.recipient == "+4915112345678"
    assert request.request_id
    assert messages.metadata["x-account-id"] == account


async def test_services_are_called_by_their_stubs(client: Client) -> None:
    tenant = (
        await client.tenants.CreateTenant(
            tenant_pb2.CreateTenantRequest(tenant=tenant_pb2.Tenant(display_name="Shop"))
        )
    ).tenant
    request = account_pb2.CreateAccountRequest(tenant_id=tenant.id)
    account = (await client.accounts.CreateAccount(request)).account
    assert await client.get_account(account.id) == account


async def test_a_failure_says_what_the_mesh_said(client: Client) -> None:
    tenant = (
        await client.tenants.CreateTenant(
            tenant_pb2.CreateTenantRequest(tenant=tenant_pb2.Tenant(display_name="Shop"))
        )
    ).tenant
    with pytest.raises(MeshCallError) as raised:
        await client.accounts.CreateAccount(
            account_pb2.CreateAccountRequest(tenant_id=tenant.id, account=account_pb2.Account(phone="1"))
        )
    error = raised.value
    assert (error.code, error.reason) == (StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert [violation.field for violation in error.field_violations] == ["account.phone"]
    assert "account.phone" in str(error)


async def test_a_missing_resource_is_named(client: Client) -> None:
    account = new_account()
    with pytest.raises(MeshCallError) as raised:
        await client.get_account(account)
    assert (raised.value.code, raised.value.resource) == (StatusCode.NOT_FOUND, f"account {account}")


async def test_a_wrong_key_is_refused(world: RouterWorld) -> None:
    async with connect(world.address, "nonsense") as client:
        with pytest.raises(MeshCallError) as raised:
            await client.get_account(new_account())
    assert raised.value.reason == "CREDENTIALS_INVALID"


async def test_an_unavailable_mesh_is_tried_again_with_the_same_request_id(
    world: RouterWorld, client: Client
) -> None:
    failures = iter([Unavailable("later", "BACKEND_UNAVAILABLE", retry_after=0.05)] * 2)

    async def answer() -> None:
        for failure in failures:
            raise failure

    messages = Messages(answer)
    account = await owned(world, messages)
    await client.send_text(account, "+4915112345678", "Hello")
    assert len(messages.requests) == 3
    assert len({request.request_id for request in messages.requests}) == 1


async def test_what_the_mesh_says_will_not_help_is_not_tried_again(
    world: RouterWorld, client: Client
) -> None:
    async def answer() -> None:
        raise FailedPrecondition("not paired", "NOT_PAIRED")

    messages = Messages(answer)
    account = await owned(world, messages)
    with pytest.raises(MeshCallError, match="NOT_PAIRED"):
        await client.send_text(account, "+4915112345678", "Hello")
    assert len(messages.requests) == 1


@pytest.mark.slow
async def test_retries_end_within_the_deadline(world: RouterWorld, client: Client) -> None:
    async def answer() -> None:
        raise Unavailable("later", "BACKEND_UNAVAILABLE", retry_after=0.3)

    messages = Messages(answer)
    account = await owned(world, messages)
    with pytest.raises(MeshCallError, match="BACKEND_UNAVAILABLE"):
        await client.send_text(account, "+4915112345678", "Hello", timeout=2)
    assert 1 < len(messages.requests) < 8  # one at the beginning, and one after each pause of 0.3 s


async def test_a_router_that_starts_late_is_waited_for(free_port: int) -> None:
    server = grpc.aio.server()

    class Accounts:
        async def get(self, request: account_pb2.GetAccountRequest, _context: Any) -> Any:
            return account_pb2.GetAccountResponse(account=account_pb2.Account(id=request.account_id))

    handler = grpc.unary_unary_rpc_method_handler(
        Accounts().get,
        account_pb2.GetAccountRequest.FromString,
        account_pb2.GetAccountResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("sessionmesh.v1.AccountService", {"GetAccount": handler})]
    )
    async with connect(f"127.0.0.1:{free_port}", "key") as client:
        call = asyncio.ensure_future(client.get_account("acc_1"))
        await asyncio.wait([call], timeout=0.3)
        server.add_insecure_port(f"127.0.0.1:{free_port}")
        await server.start()
        assert (await call).id == "acc_1"
    await server.stop(None)


async def test_streams_are_iterated_and_end_with_typed_errors(world: RouterWorld, client: Client) -> None:
    class Sessions(session_pb2_grpc.SessionServiceServicer):
        async def WatchSession(self, request: Any, context: Any) -> AsyncIterator[Any]:
            yield session_pb2.WatchSessionResponse(session=session_pb2.Session(account_id=request.account_id))
            raise FailedPrecondition("paired no more", "NOT_PAIRED", metadata={"since": "now"})

    account = new_account()
    node = await world.node("n1", {session_pb2_grpc.add_SessionServiceServicer_to_server: Sessions()})
    await node.own(account)
    stream = aiter(client.sessions.WatchSession(session_pb2.WatchSessionRequest(account_id=account)))
    assert (await anext(stream)).session.account_id == account
    with pytest.raises(MeshCallError) as raised:
        await anext(stream)
    assert (raised.value.reason, raised.value.metadata) == ("NOT_PAIRED", {"since": "now"})


class Media(media_pb2_grpc.MediaServiceServicer):
    """Keeps one file; refuses those named `refused`."""

    def __init__(self) -> None:
        self.header = media_pb2.UploadHeader()
        self.data = b""

    async def UploadMedia(self, requests: AsyncIterator[Any], context: Any) -> Any:
        self.header = (await anext(requests)).header
        if self.header.options.file_name == "refused":
            raise FailedPrecondition("no", "MEDIA_NOT_READY")
        self.data = b"".join([frame.chunk async for frame in requests])
        return media_pb2.UploadMediaResponse(media=media_pb2.Media(id="med_1", size_bytes=len(self.data)))

    async def DownloadMedia(self, request: Any, context: Any) -> AsyncIterator[Any]:
        header = media_pb2.DownloadHeader(
            media=media_pb2.Media(id=request.media_id),
            size_bytes=len(self.data),
            sha256=sha256(self.data).digest(),
        )
        yield media_pb2.DownloadMediaResponse(header=header)
        for start in range(0, len(self.data), 100_000):
            yield media_pb2.DownloadMediaResponse(chunk=self.data[start : start + 100_000])


async def test_files_and_bytes_go_up_and_come_down(
    world: RouterWorld, client: Client, tmp_path: Path
) -> None:
    kept = Media()
    await world.instance("media", {media_pb2_grpc.add_MediaServiceServicer_to_server: kept})
    data = bytes(range(256)) * 3000
    file = tmp_path / "photo.jpg"
    file.write_bytes(data)
    media = await client.upload(file)
    assert (media.size_bytes, kept.data == data) == (len(data), True)
    assert (kept.header.size_bytes, kept.header.options.file_name) == (len(data), "photo.jpg")
    assert await client.download("med_1") == data
    await client.upload(b"abc", file_name="abc.txt")
    assert (kept.data, kept.header.options.file_name) == (b"abc", "abc.txt")


async def test_a_refused_upload_says_why(world: RouterWorld, client: Client) -> None:
    await world.instance("media", {media_pb2_grpc.add_MediaServiceServicer_to_server: Media()})
    with pytest.raises(MeshCallError, match="MEDIA_NOT_READY"):
        await client.upload(b"x" * 5_000_000, file_name="refused")
