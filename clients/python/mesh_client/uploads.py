"""Uploads of files and bytes."""

from __future__ import annotations

import asyncio
import hashlib
import mimetypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from grpc.aio import AioRpcError

from mesh_client.caller import Caller, failure_of
from mesh_client.errors import MeshCallError
from mesh_client.methods import methods_of
from mesh_client.outgoing import new_request_id
from mesh_client.retries import Attempts
from mesh_client.streams import half_close, send
from sessionmesh.v1 import media_pb2

CHUNK = 256 * 1024
Progress = Callable[[int, int], None]
"""Called with the bytes done and all there are; an upload that begins again starts over at a lower number."""


class Source(Protocol):
    """Bytes that can be read more than once."""

    @property
    def size(self) -> int: ...

    @property
    def name(self) -> str: ...

    def chunks(self) -> Iterator[bytes]: ...


class BytesSource:
    """Bytes in memory."""

    name = ""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def chunks(self) -> Iterator[bytes]:
        for start in range(0, self.size, CHUNK):
            yield self._data[start : start + CHUNK]


class FileSource:
    """A file; raises `OSError` when there is none."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self.name = self._path.name
        self.size = self._path.stat().st_size

    def chunks(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk


def source_of(source: bytes | str | os.PathLike[str]) -> Source:
    """What to send; raises `OSError` for a file that cannot be read."""
    return BytesSource(source) if isinstance(source, bytes) else FileSource(source)


def guessed_type(name: str, source: Source) -> str:
    """What a file's name says of its type, where bytes do not say it themselves: of text, data and documents.
    "" where it says nothing, or cannot be right. Raises `OSError`.
    """
    guessed, encoding = mimetypes.guess_type(name)
    if guessed is None or encoding is not None or guessed == "application/pdf":
        return ""
    kind = guessed.partition("/")[0]
    if kind in ("image", "video", "audio") and guessed != "image/svg+xml":
        return ""
    is_text = kind == "text" or guessed == "image/svg+xml"
    return "" if is_text and b"\0" in next(source.chunks(), b"") else guessed


async def upload(
    caller: Caller, source: Source, header: media_pb2.UploadHeader, timeout: float, progress: Progress | None
) -> media_pb2.Media:
    """Store the source; `header` gets its size, its sha256, its type where it has none and the name says it,
    and a request id. A broken upload begins again.

    The request id makes that harmless. Raises `MeshCallError`.
    """
    attempts = caller.attempts(timeout, repeatable=True)
    header.size_bytes = source.size
    header.options.mime_type = header.options.mime_type or await asyncio.to_thread(
        guessed_type, header.options.file_name, source
    )
    header.options.sha256 = await asyncio.to_thread(_sha256, source)
    header.request_id = header.request_id or new_request_id()
    while True:
        try:
            media = await _upload_once(caller, attempts, source, header, progress)
        except MeshCallError as error:
            await caller.retry(attempts, error)
        else:
            caller.budget.earn()
            return media


async def _upload_once(
    caller: Caller,
    attempts: Attempts,
    source: Source,
    header: media_pb2.UploadHeader,
    progress: Progress | None,
) -> media_pb2.Media:
    function = await caller.callable(_UPLOAD, attempts)
    call = function(timeout=attempts.remaining(), metadata=caller.metadata(None))
    sending = asyncio.create_task(_send(call, source, header, progress), name="send an upload")
    answer = asyncio.create_task(_answer(call), name="await an upload")
    try:
        # A refusal comes before all is sent; a file that cannot be read ends the upload at once.
        await asyncio.wait([sending, answer], return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            sending.result()
        return await answer
    finally:
        call.cancel()
        sending.cancel()
        answer.cancel()
        await asyncio.wait([sending, answer])


async def _answer(call: Any) -> media_pb2.Media:
    try:
        media: media_pb2.Media = (await call).media
    except (AioRpcError, asyncio.CancelledError) as error:
        raise failure_of(error) from None
    return media


async def _send(call: Any, source: Source, header: media_pb2.UploadHeader, progress: Progress | None) -> None:
    if not await send(call, media_pb2.UploadMediaRequest(header=header)):
        return  # the call has ended, and its status says why
    chunks, done = source.chunks(), 0
    while chunk := await asyncio.to_thread(next, chunks, b""):
        if not await send(call, media_pb2.UploadMediaRequest(chunk=chunk)):
            return
        done += len(chunk)
        if progress is not None:
            progress(done, source.size)
    await half_close(call)


def _sha256(source: Source) -> bytes:
    digest = hashlib.sha256()
    for chunk in source.chunks():
        digest.update(chunk)
    return digest.digest()


_UPLOAD = methods_of("sessionmesh.v1.MediaService")["UploadMedia"]
