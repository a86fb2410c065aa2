"""The service's side of its worker processes: keeps their parent running, and gives them jobs."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import sys
from asyncio.subprocess import Process
from dataclasses import dataclass, field

import msgspec
import structlog

from mesh_media.processing.jobs import Answer, Job

logger = structlog.get_logger(__name__)

_LENGTH = struct.Struct(">I")
_MOST_ANSWER_BYTES = 1024 * 1024
_decode = msgspec.msgpack.Decoder(Answer | int).decode


@dataclass(frozen=True, slots=True)
class _Parent:
    """The parent of the jobs, and the socket that it takes them from."""

    process: Process
    control: socket.socket
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Died(Exception):
    """The process of a job ended without an answer: by its limits, or by what it was given."""


class Workers:
    """A process for each job, forked from one that has the libraries loaded, which is started anew when it
    dies.
    """

    def __init__(self) -> None:
        self._parent: asyncio.Future[_Parent] = asyncio.Future()

    async def run(self) -> None:
        """Keeps the parent of the jobs running, until cancelled."""
        while True:
            parent = await _start()
            process = parent.process
            self._parent.set_result(parent)
            try:
                code = await process.wait()
            finally:
                parent.control.close()  # ends it, and all jobs
                self._parent = asyncio.Future()
                parent.ended.set()
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            logger.error("the parent of the media workers ended and is started again", code=code)
            await asyncio.sleep(1.0)

    async def do(self, job: Job, seconds: float) -> Answer:
        """What became of the job. Raises `Died`, also when it takes longer than `seconds`.

        Who is cancelled has nothing running any more.
        """
        for _attempt in range(2):
            parent = await asyncio.shield(self._parent)
            answer = await self._attempt(parent.control, job, seconds)
            if answer is not None:
                return answer
            await parent.ended.wait()
        raise Died

    async def _attempt(self, control: socket.socket, job: Job, seconds: float) -> Answer | None:
        """None when not the job died, but the parent of all jobs."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(control, [b"j"], [theirs.fileno()])
            except OSError:  # it has just ended
                ours.close()
                return None
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        try:
            async with asyncio.timeout(seconds):
                message = msgspec.msgpack.encode(job)
                writer.write(_LENGTH.pack(len(message)) + message)
                return await _answer(reader)
        except TimeoutError:
            raise Died from None
        finally:
            writer.close()  # which kills what still runs


async def _answer(reader: asyncio.StreamReader) -> Answer | None:
    answer: Answer | None = None
    try:
        while not isinstance(message := _decode(await _message(reader)), int):
            answer = message
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except msgspec.MsgspecError:  # a process that a file has taken over
        raise Died from None
    if answer is None or message:
        raise Died
    return answer


async def _message(reader: asyncio.StreamReader) -> bytes:
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > _MOST_ANSWER_BYTES:
        raise Died
    return await reader.readexactly(length)


async def _start() -> _Parent:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "mesh_media.processing.worker"),
            stdin=theirs.fileno(),
            env={**_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )
    ours.setblocking(False)
    return _Parent(process, ours)


_ENVIRONMENT = {
    "PATH": os.defpath,
    "LANG": "C.UTF-8",
    "VIPS_CONCURRENCY": "1",
    "MALLOC_ARENA_MAX": "2",
}
"""With where its code is; nothing else of the service's own, which has secrets."""
