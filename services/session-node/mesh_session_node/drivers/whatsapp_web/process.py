"""The sidecar as a program, and as a process: started so that it cannot outlive its node, and reaped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path
from socket import socket

import structlog
from google.protobuf import json_format

from mesh_parent import launcher
from sessionmesh.internal.v1 import linked_device_pb2 as pb

logger = structlog.get_logger(__name__)

NAME = "whatsapp-web-sidecar"
_STOP_SECONDS = 2.0
_PIECE = 8192


class NoSidecar(Exception):
    """There is no such program here; the text says what to do."""


def find_program(named: str = "") -> str:
    """The program: `named`, or the one beside Python's own programs, or on PATH. Raises `NoSidecar`."""
    places = (str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))
    found = shutil.which(named or NAME, path=os.pathsep.join(places))
    if found is None:
        advice = "`make whatsapp-web` builds it where Go is, and MESH_WHATSAPP_WEB_SIDECAR names one"
        raise NoSidecar(f"{named or NAME} is not here: {advice}")
    return found


async def version_of(program: str) -> pb.SidecarStarted | None:
    """What the program says it is; None: it is no sidecar, or an older one. Raises `OSError`."""
    process = await asyncio.create_subprocess_exec(
        program,
        "--version",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        line = b"" if process.stdout is None else await process.stdout.readline()
        return json_format.Parse(line, pb.SidecarStarted())
    except (ValueError, json_format.ParseError):
        return None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await asyncio.shield(process.wait())


class Process:
    """A running sidecar. It ends when the other end of its standard input closes, and is killed when this
    process dies, even while either of them is stopped.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._log = asyncio.create_task(self._read_log(), name="the sidecar's standard error")

    @classmethod
    async def start(cls, program: str, stdin: socket) -> Process:
        """`stdin` is what it speaks over. Raises `OSError`."""
        # Called on the thread that lives as long as this process: the kernel ties the two by thread.
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", launcher.__file__, str(os.getpid()), str(int(signal.SIGKILL)), "-"),
            program,
            stdin=stdin.fileno(),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        return cls(process)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ended(self) -> str:
        """Wait for its end; how it ended."""
        code = await self._process.wait()
        return (
            f"it was killed by {signal.Signals(-code).name}" if code < 0 else f"it ended with status {code}"
        )

    async def stop(self) -> None:
        """Wait for its end, which it was told of; kill it when it does not end."""
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            logger.warning("the sidecar does not end and is killed", pid=self.pid)
        finally:
            await self.kill()

    async def kill(self) -> None:
        """Kill it, and return when it is reaped: nothing of it can leave any more."""
        if self._process.returncode is None:
            self._process.kill()
        await asyncio.shield(self._process.wait())
        self._log.cancel()

    async def _read_log(self) -> None:
        """What it writes of itself, such as the traces of a crash."""
        source, rest = self._process.stderr, b""
        while source is not None and (piece := await source.read(_PIECE)):
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > _PIECE:
                lines, rest = [*lines, rest], b""
            for line in lines:
                logger.warning("sidecar", line=line.decode(errors="replace"), pid=self.pid)
