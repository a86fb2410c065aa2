"""Files on their way from the network to the media service: what breaks them reaches who asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import grpc.aio
import pytest

from mesh_core.ids import new_uuid
from mesh_core.rpc.channels import ChannelPool
from mesh_session_node.drivers.interface.outcomes import BlobUnavailable, ConnectionEnded, End
from mesh_session_node.store.media import MediaClient
from sessionmesh.v1 import content_pb2, media_pb2, media_pb2_grpc
from tests.support.memory_journal import Clock

TENANT = new_uuid()


class Media(media_pb2_grpc.MediaServiceServicer):
    """Takes uploads to their end, and has one file until it is `deleted`."""

    def __init__(self) -> None:
        self.deleted = False
        self.asked = 0

    async def GetMedia(self, request: media_pb2.GetMediaRequest, context: Any) -> media_pb2.GetMediaResponse:
        self.asked += 1
        if self.deleted:
            await context.abort(grpc.StatusCode.NOT_FOUND, "gone")
        media = media_pb2.Media(id=request.media_id, state=content_pb2.MEDIA_STATE_READY)
        return media_pb2.GetMediaResponse(media=media)

    async def UploadMedia(self, request_iterator: Any, context: Any) -> media_pb2.UploadMediaResponse:
        size = sum([len(frame.chunk) async for frame in request_iterator])
        return media_pb2.UploadMediaResponse(media=media_pb2.Media(id="med_1", size_bytes=size))


@pytest.fixture
async def service() -> Media:
    return Media()


@pytest.fixture
async def client(service: Media) -> AsyncIterator[MediaClient]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    media_pb2_grpc.add_MediaServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channels = ChannelPool()
    yield MediaClient(channels, cast("Any", None), f"127.0.0.1:{port}", "mesh-key")
    await channels.close()
    await server.stop(None)


async def pieces(error: Exception | None = None) -> AsyncIterator[bytes]:
    yield b"miao"
    if error is not None:
        raise error


async def test_a_file_that_goes_to_many_is_asked_for_once(client: MediaClient, service: Media) -> None:
    for _ in range(3):
        await client.get(TENANT, "med_1")
    assert service.asked == 1


async def test_a_deleted_file_is_gone_after_a_few_seconds(
    client: MediaClient, service: Media, clock: Clock
) -> None:
    await client.get(TENANT, "med_1")
    service.deleted = True
    await clock.skip(5.1)
    with pytest.raises(grpc.aio.AioRpcError) as gone:
        await client.get(TENANT, "med_1")
    assert gone.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_file_is_stored(client: MediaClient) -> None:
    media = await client.upload(TENANT, media_pb2.UploadHeader(), pieces())
    assert (media.id, media.size_bytes) == ("med_1", 4)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionEnded(End.LOST),
        BlobUnavailable("no such file"),
        TimeoutError("no answer"),
        ValueError("odd"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_ends_the_pieces_of_a_file_is_what_the_upload_raises(
    client: MediaClient, error: Exception
) -> None:
    with pytest.raises(type(error)) as raised:
        await client.upload(TENANT, media_pb2.UploadHeader(), pieces(error))
    assert raised.value is error


async def test_an_upload_whose_task_is_cancelled_ends_with_it(client: MediaClient) -> None:
    begun, never = asyncio.Event(), asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"miao"
        begun.set()
        await never.wait()

    upload = asyncio.create_task(client.upload(TENANT, media_pb2.UploadHeader(), endless()))
    await begun.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
