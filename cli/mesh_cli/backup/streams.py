"""The bytes of backups, compressed (gzip) and encrypted (age), a chunk at a time and beside the event loop.

`age -d -i KEY FILE | gunzip` opens what is stored, too.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, suppress
from hashlib import sha256
from typing import TypeAlias

import pyrage

from mesh_cli.backup import Damaged

Bytes: TypeAlias = AsyncGenerator[bytes, None]
"""Chunks, none of them empty."""
CHUNK_BYTES = 256 * 1024
_LEVEL = 1
_GZIP = 31
_WAITING = 4
_CLOSE_SECONDS = 10.0


async def sealed(plain: Bytes, recipient: str) -> Bytes:
    """`plain` for who has the identity of `recipient`."""
    key = pyrage.x25519.Recipient.from_str(recipient)

    def work(source: Reader, sink: _Writer) -> None:
        pyrage.encrypt_io(_Deflated(source), sink, [key])

    async for chunk in _beside(plain, work):
        yield chunk


async def opened(stored: Bytes, identity: str, name: str) -> Bytes:
    """What was sealed. Raises `Damaged`, which names the file `name`, at the latest at its end."""
    key = pyrage.x25519.Identity.from_str(identity)

    def work(source: Reader, sink: _Writer) -> None:
        inflating = _Inflating(sink)
        try:
            pyrage.decrypt_io(source, inflating, [key])
            whole = inflating.ended
        except (pyrage.DecryptError, zlib.error, OSError) as error:
            if "No matching keys" in str(error):
                raise Damaged(f"{name} was encrypted for another key") from None
            whole = False
        if not whole and source.failure is None and not sink.abandoned:
            raise Damaged(f"{name} is damaged")

    async for chunk in _beside(stored, work):
        yield chunk


class Counted:
    """Size and hash of what passes."""

    def __init__(self) -> None:
        self.size = 0
        self._digest = sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    async def of(self, chunks: Bytes) -> Bytes:
        async with aclosing(chunks):
            async for chunk in chunks:
                self.size += len(chunk)
                self._digest.update(chunk)
                yield chunk


@asynccontextmanager
async def read_by_others(chunks: Bytes) -> AsyncIterator[Bytes]:
    """A stream that is closed at the end, also when whoever reads it was cancelled in the middle of a chunk:
    that one still comes, seconds later at most, and then the stream can be closed.
    """
    try:
        yield chunks
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await _close(chunks)


async def _close(chunks: Bytes) -> None:
    while True:
        try:
            await chunks.aclose()
        except RuntimeError:  # somebody still reads
            await asyncio.sleep(_POLL_SECONDS)
        else:
            return


async def of_bytes(content: bytes) -> Bytes:
    """Bytes as a stream."""
    for at in range(0, len(content), CHUNK_BYTES):
        yield content[at : at + CHUNK_BYTES]


class Reader:
    """A stream as a file to read from, on another thread than the event loop's."""

    def __init__(self, chunks: Bytes, loop: asyncio.AbstractEventLoop) -> None:
        self._chunks = chunks
        self._loop = loop
        self._rest = memoryview(b"")
        self.failure: BaseException | None = None

    def read(self, most: int = -1) -> bytes:
        if most < 0:
            raise ValueError("the whole of a stream is never read at once")
        if not self._rest:
            self._rest = memoryview(self._next())
        part, self._rest = bytes(self._rest[:most]), self._rest[most:]
        return part

    def _next(self) -> bytes:
        async def following() -> bytes:
            return await anext(self._chunks, b"")

        try:
            return asyncio.run_coroutine_threadsafe(following(), self._loop).result()
        except BaseException as failure:
            self.failure = failure
            raise


class _Writer:
    """A file whose bytes come out as a stream."""

    def __init__(self, queue: asyncio.Queue[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._queue = queue
        self._loop = loop
        self._gathered = bytearray()
        self.abandoned = False

    def write(self, part: bytes) -> int:
        self._gathered += part
        if len(self._gathered) >= CHUNK_BYTES:
            self.flush()
        return len(part)

    def flush(self) -> None:
        if self.abandoned:
            raise BrokenPipeError("nobody reads on")
        if self._gathered:
            chunk, self._gathered = bytes(self._gathered), bytearray()
            asyncio.run_coroutine_threadsafe(self._queue.put(chunk), self._loop).result()


class _Deflated:
    """What is read from `source`, compressed."""

    def __init__(self, source: Reader) -> None:
        self._source = source
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self._rest = memoryview(b"")
        self._ended = False

    def read(self, most: int = -1) -> bytes:
        while not self._rest and not self._ended:
            chunk = self._source.read(CHUNK_BYTES)
            self._ended = not chunk
            self._rest = memoryview(self._deflate.compress(chunk) if chunk else self._deflate.flush())
        part, self._rest = bytes(self._rest[:most]), self._rest[most:]
        return part


class _Inflating:
    """What is written, decompressed into `sink`."""

    def __init__(self, sink: _Writer) -> None:
        self._sink = sink
        self._inflate = zlib.decompressobj(_GZIP)

    @property
    def ended(self) -> bool:
        return self._inflate.eof

    def write(self, part: bytes) -> int:
        self._sink.write(self._inflate.decompress(part))
        return len(part)

    def flush(self) -> None:
        return


async def _beside(chunks: Bytes, work: Callable[[Reader, _Writer], None]) -> Bytes:
    """What `work` writes of what it reads, on its own thread: the pool's may all wait for one another."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes] = asyncio.Queue(_WAITING)
    reader, writer = Reader(chunks, loop), _Writer(queue, loop)
    executor = ThreadPoolExecutor(1)

    def run() -> None:
        work(reader, writer)
        writer.flush()

    async def whole() -> None:
        try:
            await loop.run_in_executor(executor, run)
        except Exception:  # the library words failures of what it reads itself
            if reader.failure is None:
                raise
        finally:
            await queue.put(b"")
        if reader.failure is not None:  # which the library tells as one of its own, or not at all
            raise reader.failure

    task = asyncio.create_task(whole(), name="stream of a backup")
    try:
        while chunk := await queue.get():
            yield chunk
        await task
    finally:
        writer.abandoned = True
        while not task.done():
            while not queue.empty():
                queue.get_nowait()
            await asyncio.wait({task}, timeout=_POLL_SECONDS)
        executor.shutdown(wait=False)
        with suppress(Exception):
            task.exception()
        await chunks.aclose()


_POLL_SECONDS = 0.01
