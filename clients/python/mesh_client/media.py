"""Uploads and downloads."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Protocol

from grpc.aio import AioRpcError, InternalError

from mesh_client.calls import Caller
from mesh_client.errors import MeshCallError, call_error
from mesh_client.retries import pause_before
from sessionmesh.v1 import media_pb2, media_pb2_grpc

CHUNK = 256 * 1024


class Source(Protocol):
    """Bytes that can be read more than once."""

    @property
    def size(self) -> int: ...

    def chunks(self) -> Iterator[bytes]: ...


class BytesSource:
    """Bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def chunks(self) -> Iterator[bytes]:
        for start in range(0, self.size, CHUNK):
            yield self._data[start : start + CHUNK]


class FileSource:
    """A file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = path.stat().st_size

    def chunks(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk


async def upload(
    caller: Caller, source: Source, header: media_pb2.UploadHeader, timeout: float
) -> media_pb2.Media:
    """Store the source; `header` gets its size and a request id. A broken upload begins again."""
    header.size = source.size
    header.request_id = header.request_id or uuid.uuid4().hex
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    attempt = 0
    while True:
        try:
            media = await _upload_once(caller, source, header, deadline - loop.time())
        except MeshCallError as error:
            pause = pause_before(attempt, error)
            if pause is None or loop.time() + pause >= deadline or not caller.budget.spend():
                raise
        else:
            caller.budget.earn()
            return media
        attempt += 1
        await asyncio.sleep(pause)


async def download(caller: Caller, media_id: str, timeout: float | None) -> AsyncIterator[bytes]:
    """The stored bytes, in order. Raises `MeshCallError`."""
    stub: Any = media_pb2_grpc.MediaServiceStub(caller.channel)
    request = media_pb2.DownloadMediaRequest(media_id=media_id)
    call = stub.DownloadMedia(request, timeout=timeout, metadata=caller.metadata(None, None))
    try:
        async for frame in call:
            if frame.chunk:
                yield frame.chunk
    except AioRpcError as error:
        raise call_error(error) from None
    finally:
        call.cancel()


def sha256_of(source: Source) -> bytes:
    """Of the whole source."""
    digest = hashlib.sha256()
    for chunk in source.chunks():
        digest.update(chunk)
    return digest.digest()


async def _upload_once(
    caller: Caller, source: Source, header: media_pb2.UploadHeader, timeout: float
) -> media_pb2.Media:
    stub: Any = media_pb2_grpc.MediaServiceStub(caller.channel)
    call = stub.UploadMedia(timeout=timeout, metadata=caller.metadata(None, None))
    sending = asyncio.create_task(_send(call, source, header), name="upload")
    try:
        response = await call
    except AioRpcError as error:
        raise call_error(error) from None
    finally:
        call.cancel()
        sending.cancel()
        await asyncio.wait([sending])
    media: media_pb2.Media = response.media
    return media


async def _send(call: Any, source: Source, header: media_pb2.UploadHeader) -> None:
    # grpc.aio's own write replaces the server's status with INTERNAL when the server ends the call during it,
    # so frames go beneath it.
    try:
        await call.wait_for_connection()
        await call._cython_call.send_serialized_message(
            media_pb2.UploadMediaRequest(header=header).SerializeToString()
        )
        for chunk in source.chunks():
            if call.done():
                return
            await call._cython_call.send_serialized_message(
                media_pb2.UploadMediaRequest(chunk=chunk).SerializeToString()
            )
        await call.done_writing()
    except (AioRpcError, InternalError):
        return  # the call has ended, and its status says why
