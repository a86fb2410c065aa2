"""Media on their way out and in, with a real media service."""

from __future__ import annotations

import io
import secrets
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import grpc.aio
import PIL.Image
import pytest
import pytest_asyncio

from mesh_core.ids import Prefix, decode, new_id
from mesh_core.rpc.server.status import from_rpc_error
from mesh_simulator.faults.faults import FaultKind
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import content_pb2, event_pb2, media_pb2, message_pb2
from tests.conftest import Databases, LoopThread
from tests.support.eventually import eventually
from tests.support.session_node_stage import (
    Account,
    NodeProcess,
    Stage,
    fresh_database,
    open_stage,
    text_request,
)

FILE = b"%PDF-1.7\n" + secrets.token_bytes(300_000)


pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage(
    databases: Databases, server_loop: LoopThread, etcd: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    """One network and one tenant for the whole module: tests make accounts of their own."""
    with fresh_database(databases, server_loop) as url:
        async with open_stage(url, etcd, tmp_path_factory.mktemp("nodes")) as opened:
            yield opened


def document(account: Account, media_id: str) -> message_pb2.SendMessageRequest:
    request = text_request(account)
    request.content.document.media.media_id = media_id
    request.content.document.file_name = "report.pdf"
    return request


async def fetched(stage: Stage, account: Account, node: NodeProcess) -> content_pb2.DocumentContent:
    """The document that the account received, once it is READY."""

    async def ready() -> Any:
        listing = message_pb2.ListMessagesRequest(account_id=account.id)
        answer = await stage.owned(lambda: node.messages.ListMessages(listing, metadata=stage.metadata))
        for message in answer.messages:
            if message.content.document.media.state == content_pb2.MEDIA_STATE_READY:
                return message.content.document
        return None

    found: content_pb2.DocumentContent = await eventually(ready, 90)
    return found


async def download(stage: Stage, media: NodeProcess, media_id: str) -> bytes:
    call = media.media.DownloadMedia(
        media_pb2.DownloadMediaRequest(media_id=media_id), metadata=stage.metadata
    )
    return b"".join([frame.chunk async for frame in call])


async def test_a_document_goes_from_one_account_to_another(stage: Stage) -> None:
    media, [node] = await stage.running_media(), await stage.running_nodes(1)
    sender, receiver = await stage.paired(node), await stage.paired(node)
    request = document(sender, await stage.upload(media, FILE))
    request.recipient = receiver.phone
    following = text_request(sender, "what do you say?")
    following.recipient = receiver.phone

    await node.messages.SendMessage(request, metadata=stage.metadata)
    await node.messages.SendMessage(following, metadata=stage.metadata)

    arrived = await fetched(stage, receiver, node)
    assert arrived.file_name == "report.pdf"
    assert arrived.media.sha256 == sha256(FILE).digest()
    assert await download(stage, media, arrived.media.media_id) == FILE

    async def events() -> list[event_pb2.Event]:
        return [event_pb2.Event.FromString(body) for _, body in await stage.events(receiver)]

    async def both() -> bool:
        contents = [event.message.message.content for event in await events() if event.HasField("message")]
        return [content.WhichOneof("kind") for content in contents] == ["document", "text"]

    await eventually(both, what="the text behind the document")
    ready = [event.media for event in await events() if event.type == "media.ready"]
    assert [event.media.id for event in ready] == [arrived.media.media_id]
    waiting = "SELECT count(*) FROM media_fetch WHERE account = $1"

    async def none_waits() -> bool:
        return bool(await stage.database.fetchval(waiting, receiver.uuid) == 0)

    await eventually(none_waits, what="an end of the fetch")
    assert await stage.database.fetchval(_CATEGORIES, sender.uuid) == [media_pb2.MEDIA_CATEGORY_SENT]
    assert await stage.database.fetchval(_CATEGORIES, receiver.uuid) == [media_pb2.MEDIA_CATEGORY_RECEIVED]


async def test_media_that_do_not_exist_or_do_not_fit_are_refused(stage: Stage) -> None:
    media, [node] = await stage.running_media(), await stage.running_nodes(1)
    account = await stage.paired(node)
    image = text_request(account)
    image.content.image.media.media_id = await stage.upload(media, FILE)

    request = document(account, new_id(Prefix.MEDIA))
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await node.messages.SendMessage(request, metadata=stage.metadata)
    with pytest.raises(grpc.aio.AioRpcError) as unfit:
        await node.messages.SendMessage(image, metadata=stage.metadata)

    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
    assert from_rpc_error(unfit.value).field == "content.image.media.media_id"  # type: ignore[attr-defined]  # InvalidField


async def test_bytes_that_the_account_received_before_are_not_fetched(stage: Stage) -> None:
    await stage.running_media()
    [node] = await stage.running_nodes(1)
    account, data = await stage.paired(node), new_file()
    stage.receive(account, file_of(stage.network.blobs.put(data), data))
    first = await fetched(stage, account, node)
    stage.receive(account, file_of("missing", data))

    async def both() -> bool:
        referring = "SELECT count(*) FROM media_reference WHERE account = $1 AND media = $2"
        media = decode(Prefix.MEDIA, first.media.media_id, "media_id")
        return bool(await stage.database.fetchval(referring, account.uuid, media) == 2)

    await eventually(both, what="a second message that refers to the file")


async def test_a_file_inside_a_send_is_stored_once_and_named_by_its_id(stage: Stage) -> None:
    media, [node] = await stage.running_media(), await stage.running_nodes(1)
    account, data = await stage.paired(node), new_file()[:60_000]
    request = text_request(account)
    request.content.document.media.inline_data = data
    request.content.document.media.mime_type = "image/png"  # only a hint
    request.content.document.file_name = "offer 1/2026.pdf"
    again = message_pb2.SendMessageRequest()
    again.CopyFrom(request)
    sent = (await node.messages.SendMessage(request, metadata=stage.metadata)).message
    repeated = (await node.messages.SendMessage(again, metadata=stage.metadata)).message
    assert repeated.id == sent.id

    shown = (await stage.message(sent.id, account, node)).content.document
    assert (shown.file_name, shown.media.mime_type) == ("offer 1/2026.pdf", "application/pdf")
    assert not shown.media.inline_data
    assert await download(stage, media, shown.media.media_id) == data
    stored = await media.media.GetMedia(
        media_pb2.GetMediaRequest(media_id=shown.media.media_id), metadata=stage.metadata
    )
    assert (stored.media.origin, stored.media.account_id) == (media_pb2.MEDIA_ORIGIN_INLINE, account.id)
    count = await stage.database.fetchval("SELECT count(*) FROM media WHERE account = $1", account.uuid)
    assert count == 1


async def test_a_file_inside_a_send_becomes_what_networks_show(stage: Stage) -> None:
    media, [node] = await stage.running_media(), await stage.running_nodes(1)
    account = await stage.paired(node)
    request = text_request(account)
    request.content.video.media.inline_data = moving_gif()
    sent = (await node.messages.SendMessage(request, metadata=stage.metadata)).message
    shown = (await stage.message(sent.id, account, node)).content.video
    assert (shown.media.mime_type, shown.gif_playback) == ("video/mp4", True)
    assert b"avc1" in await download(stage, media, shown.media.media_id)


async def test_a_file_inside_a_send_that_cannot_be_sent_so_is_refused(stage: Stage) -> None:
    await stage.running_media()
    [node] = await stage.running_nodes(1)
    request = text_request(await stage.paired(node))
    request.content.image.media.inline_data = b"%PDF-1.7\nno picture"
    with pytest.raises(grpc.aio.AioRpcError) as unfit:
        await node.messages.SendMessage(request, metadata=stage.metadata)
    assert from_rpc_error(unfit.value).field == "content.image.media.inline_data"  # type: ignore[attr-defined]  # InvalidField


async def test_a_fetch_outlives_the_node_and_waits_for_the_media_service(stage: Stage) -> None:
    data = new_file()
    [node] = await stage.running_nodes(1)
    account = await stage.paired(node)
    await (await stage.running_media()).stop()
    stage.receive(account, file_of(stage.network.blobs.put(data), data))

    async def marked() -> bool:
        tried = await stage.database.fetchval(
            "SELECT count(*) FROM media_fetch WHERE account = $1 AND attempts > 0", account.uuid
        )
        return bool(tried == 1)

    await eventually(marked)
    await node.stop()
    media, [another] = await stage.running_media(), await stage.running_nodes(1)

    arrived = await fetched(stage, account, another)
    assert await download(stage, media, arrived.media.media_id) == data


async def test_a_fetch_that_the_connection_breaks_off_begins_again(stage: Stage) -> None:
    data = new_file()
    media, [node] = await stage.running_media(), await stage.running_nodes(1)
    account = await stage.paired(node)
    slow = stage.inject(FaultKind.BANDWIDTH, account, 10_000)
    stage.receive(account, file_of(stage.network.blobs.put(data), data))
    await eventually(lambda: stage.database.fetchval(_WAITING, account.uuid))
    stage.inject(FaultKind.DROP_CONNECTION, account)
    stage.network.faults.clear(slow)

    arrived = await fetched(stage, account, node)
    assert await download(stage, media, arrived.media.media_id) == data


async def test_a_file_that_the_network_lacks_is_failed_and_told(stage: Stage) -> None:
    await stage.running_media()
    [node] = await stage.running_nodes(1)
    account = await stage.paired(node)
    stage.receive(account, file_of("missing", new_file()))

    async def told() -> event_pb2.MediaEvent | None:
        for type_, body in await stage.events(account):
            if type_ == "media.failed":
                return event_pb2.Event.FromString(body).media
        return None

    event = await eventually(told)
    assert event.media.failure == media_pb2.MEDIA_FAILURE_GONE
    shown = await stage.message(event.message_id, account, node)
    assert shown.content.document.media.state == content_pb2.MEDIA_STATE_FAILED
    assert await stage.database.fetchval(_WAITING, account.uuid) == 0


def new_file() -> bytes:
    """Bytes that the tenant does not have yet."""
    return b"%PDF-1.7\n" + secrets.token_bytes(300_000)


def file_of(ref: str, data: bytes) -> wire.Content:
    """A message with a document that the network names so."""
    digest = sha256(data).digest()
    blob = wire.Blob(ref=ref, sha256=digest, mime="application/pdf", size=len(data), shown_as="document")
    return wire.Content(blob=blob)


_WAITING = "SELECT count(*) FROM media_fetch WHERE account = $1"
_CATEGORIES = "SELECT array_agg(category) FROM media_reference WHERE account = $1"


def moving_gif() -> bytes:
    """A GIF of three frames."""
    frames = [PIL.Image.new("L", (64, 64), grey) for grey in (0, 128, 255)]
    made = io.BytesIO()
    frames[0].save(made, "GIF", save_all=True, append_images=frames[1:], duration=100)
    return made.getvalue()
