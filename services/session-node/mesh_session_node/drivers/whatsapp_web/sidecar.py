"""The sidecar of this node: started when an account first needs it, then kept running, watched, and killed
when it hangs.

Its end is the end of its connections and of nothing else. One that ran steadily is followed by the next at
once, others after a backoff. Once the user of a connection is told that the sidecar is gone, that is reaped:
nothing of the connection can leave any more.
"""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import structlog

from mesh_core.backoff import Backoff
from mesh_core.signal import Signal
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End
from mesh_session_node.drivers.whatsapp_web import telemetry
from mesh_session_node.drivers.whatsapp_web.own_words import OwnWords
from mesh_session_node.drivers.whatsapp_web.process import NoSidecar, Process, find_program, version_of
from mesh_session_node.drivers.whatsapp_web.settings import WhatsappWebSettings
from mesh_session_node.drivers.whatsapp_web.stream import Stream
from sessionmesh.internal.v1 import linked_device_pb2 as pb

logger = structlog.get_logger(__name__)

PROTOCOL = 1
"""The version of linked_device.proto that this node speaks."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 15.0
STEADY_SECONDS = 30.0
WATCHES = 4
"""How often a sidecar is looked at in the time after which it counts as hanging."""


class SidecarFailed(Exception):
    """It must be killed. `kind` is a few words for a metric, the text all of it."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind


class Sidecar:
    """`stream` is for who connects; `run` is a background task of the node."""

    def __init__(self, settings: WhatsappWebSettings) -> None:
        self.version: pb.SidecarStarted | None = None
        """What runs, or ran last, or would run."""
        self.problem = ""
        """Why none can run; "" while one does or can, as far as is known."""
        self._settings = settings
        self._stream: Stream | None = None
        self._needed = False
        self._worked = False
        self._news = Signal()

    async def stream(self) -> Stream:
        """The stream of the sidecar; starts it, or waits while it starts. Raises `ConnectionEnded`."""
        self._needed = True
        self._news.notify()
        try:
            async with asyncio.timeout(self._settings.start_seconds):
                await self._news.wait_until(lambda: self._stream or self.problem)
        except TimeoutError:
            raise ConnectionEnded(End.LOST, "the sidecar does not run") from None
        if self._stream is None:
            raise ConnectionEnded(End.LOST, f"the sidecar does not run: {self.problem}")
        return self._stream

    async def ask_version(self) -> pb.SidecarStarted:
        """Ask the program what it is. Raises `SidecarFailed`, `NoSidecar`, `OSError`."""
        program = find_program(self._settings.sidecar)
        try:
            async with asyncio.timeout(self._settings.start_seconds):
                version = await version_of(program)
        except TimeoutError:
            raise self._silent() from None
        if version is None:
            raise SidecarFailed("wrong version", f"{program} does not say its version: {_BUILD_AGAIN}")
        self._accept(version)
        return version

    async def run(self) -> None:
        """Say whether there is a sidecar; keep one running once an account needs it, until cancelled."""
        backoff, absent = Backoff(FIRST_PAUSE, LONGEST_PAUSE), ""
        telemetry.UP.set(0)
        while True:
            began = time.monotonic()
            self._worked = False
            try:
                if not self._needed:
                    await self.ask_version()
                    await self._news.wait_until(lambda: self._needed)
                    began = time.monotonic()
                await self._run_once()
            except NoSidecar as error:  # as where nobody has such accounts
                self.problem = str(error)
                if absent != self.problem:
                    absent = self.problem
                    logger.info("accounts of whatsapp_web cannot go online", reason=absent)
            except SidecarFailed as error:
                self._has_ended(error.kind, str(error))
            except OSError as error:
                self._has_ended("not started", f"it cannot be started: {error}")
            self._news.notify()
            if self._worked and time.monotonic() - began > STEADY_SECONDS:
                backoff.reset()
            else:
                await asyncio.sleep(backoff.next())

    def _has_ended(self, kind: str, detail: str) -> None:
        telemetry.ENDS.labels(kind).inc()
        logger.error("the sidecar has ended", reason=detail, worked=self._worked)
        self.problem = "" if self._worked else detail

    async def _run_once(self) -> None:
        """Run one sidecar until it ends, or must. Raises `SidecarFailed`, `NoSidecar`, `OSError`."""
        program, words = find_program(self._settings.sidecar), OwnWords()
        ours, theirs = socket.socketpair()
        try:
            process = await Process.start(program, theirs)
        except BaseException:  # a node that stops cancels it: nobody will use this end
            ours.close()
            raise
        finally:
            theirs.close()
        telemetry.pid = process.pid
        stream = Stream(words, self._settings.hang_seconds)
        detail = "the node stops"
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: stream, sock=ours)
            await self._serve(process, stream, words)
        except SidecarFailed as error:
            detail = str(error)
            raise
        except asyncio.CancelledError:
            stream.hang_up()
            await process.stop()
            raise
        finally:
            self._stream = None
            telemetry.UP.set(0)
            await process.kill()
            stream.end(f"the sidecar is gone: {detail}")

    async def _serve(self, process: Process, stream: Stream, words: OwnWords) -> None:
        """Speak to the sidecar. Raises `SidecarFailed` once that must end."""
        end: asyncio.Task[Any] = asyncio.create_task(process.ended(), name="the sidecar's end")
        work: list[asyncio.Task[Any]] = [
            asyncio.create_task(stream.broken(), name="the end of the sidecar's connection"),
            asyncio.create_task(self._watch(stream, words), name="watch the sidecar"),
        ]
        try:
            await asyncio.wait([end, *work], return_when=asyncio.FIRST_COMPLETED)
            self._stream = None  # who connects from now on waits for the next one
            # A process that dies takes the connection with it: how it died says more.
            await asyncio.wait([end], timeout=_LAST_WORDS_SECONDS)
            if end.done():
                raise SidecarFailed("died", end.result())
            for task in work:
                if task.done():
                    raise SidecarFailed("broke", task.result())
        except SidecarFailed:
            raise
        except Exception as error:  # this side's own fault: the node and its other accounts go on
            logger.exception("the sidecar cannot be watched")
            raise SidecarFailed("broke", f"this side failed: {type(error).__name__}") from None
        finally:
            for task in (end, *work):
                task.cancel()
            await asyncio.wait([end, *work])

    async def _watch(self, stream: Stream, words: OwnWords) -> None:
        """Greet the sidecar, and then look whether it answers. Raises `SidecarFailed`."""
        settings = self._settings
        greeting = pb.StartSidecar(
            protocol=PROTOCOL,
            device_name=settings.device_name,
            test_network=settings.test_network,
            test_root=settings.root,
        )
        stream.write(pb.RunRequest(start=greeting))
        try:
            async with asyncio.timeout(settings.start_seconds):
                started = await words.started
        except TimeoutError:
            raise self._silent() from None
        self._accept(started)
        self._stream, self._worked = stream, True
        telemetry.UP.set(1)
        self._news.notify()
        logger.info("the sidecar runs", version=started.version, client_version=started.client_version)
        while True:
            await asyncio.sleep(settings.hang_seconds / WATCHES)
            await self._answer(stream)

    def _silent(self) -> SidecarFailed:
        return SidecarFailed("hung", f"it did not answer for {self._settings.start_seconds:g} s")

    def _accept(self, version: pb.SidecarStarted) -> None:
        """Remember what the sidecar is. Raises `SidecarFailed` when it cannot be spoken to."""
        if version.protocol != PROTOCOL:
            advice = f"it speaks version {version.protocol} of the protocol, and this node {PROTOCOL}"
            raise SidecarFailed("wrong version", f"{advice}: {_BUILD_AGAIN}")
        self.version, self.problem = version, ""

    async def _answer(self, stream: Stream) -> None:
        # Whatever it says: its answer stands behind all that a busy node has yet to read.
        before = stream.spoke.version
        stream.write(pb.RunRequest(ping=pb.PingNetwork()))
        for _ in range(2):  # a node that was itself stopped reads, after the first, what came meanwhile
            try:
                async with asyncio.timeout(self._settings.hang_seconds / 2):
                    await stream.spoke.wait(before)
            except TimeoutError:
                continue
            return
        raise SidecarFailed("hung", f"it did not answer for {self._settings.hang_seconds:g} s")


_BUILD_AGAIN = "build it again with `make whatsapp-web`"
_LAST_WORDS_SECONDS = 0.2
