"""A program that stands in for the sidecar of linked devices: it does what the test has it do.

It logs every device in, acknowledges what is sent, and closes what is to be closed. What is sent to `SAY` it
says instead of sending it, byte for byte, in a frame. What it is told it appends to the file that
FAKE_SIDECAR_HEARD names. FAKE_SIDECAR_PROTOCOL is the version that it speaks; 0: it says nothing at all.
FAKE_SIDECAR_VERSION is what it says of that when only its version is asked for; `mute`: nothing. With
FAKE_SIDECAR_BEHIND it says something else whenever it is asked whether it is there.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import sys
from pathlib import Path
from typing import Any

from mesh_core.framing import FrameDecoder, encode
from mesh_session_node.drivers.whatsapp_web.stream import MAX_FRAME_BYTES
from sessionmesh.internal.v1 import linked_device_pb2 as pb

SAY = "say"
HEARD = "FAKE_SIDECAR_HEARD"
SPEAKS = "FAKE_SIDECAR_PROTOCOL"
VERSION = "FAKE_SIDECAR_VERSION"
BEHIND = "FAKE_SIDECAR_BEHIND"
CODE = "2@code"
_SCRIPT = """#!/bin/sh
if [ "$1" = --version ]; then
  [ "$FAKE_SIDECAR_VERSION" != mute ] || exec sleep 60
  printf '{{"protocol": %s, "version": "fake", "clientVersion": "2.3000"}}\\n' "${{FAKE_SIDECAR_VERSION:-1}}"
  exit
fi
exec "{python}" -m tests.support.fake_sidecar "$@"
"""


def install(folder: Path) -> Path:
    """An executable that is this program."""
    program = folder / "fake-sidecar"
    program.write_text(_SCRIPT.format(python=sys.executable))
    program.chmod(0o700)
    return program


def requests_of(file: Path) -> list[pb.RunRequest]:
    """What a sidecar that appends to `file` was told, in order."""
    if not file.exists():
        return []
    whole, _, _ = file.read_text().rpartition("\n")
    return [pb.RunRequest.FromString(base64.b64decode(line)) for line in whole.split("\n") if line]


class FakeSidecar(asyncio.Protocol):
    """One connection to a node; `ended` once that has closed it."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: Any = None
        self._decoder = FrameDecoder(MAX_FRAME_BYTES)
        self._files: list[bytes] = []
        self._uploads: dict[int, bytes] = {}

    @classmethod
    async def speak(cls, over: socket.socket) -> FakeSidecar:
        """One that speaks over a socket."""
        loop = asyncio.get_running_loop()
        _, fake = await loop.create_unix_connection(cls, sock=over)
        return fake

    def close(self) -> None:
        self._transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for frame in self._decoder.feed(data):
            request = pb.RunRequest.FromString(frame)
            with open(os.environ[HEARD], "a") as heard:
                heard.write(base64.b64encode(frame).decode() + "\n")
            for answer in self._answers(request):
                self._transport.write(encode(answer))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    # ---

    def _of_file(self, request: pb.RunRequest) -> list[bytes]:
        """A file is stored whole, and every one that is stored is a piece of what is given."""
        number, kind = request.connection, request.WhichOneof("request")
        if kind == "upload":
            self._uploads[request.upload.file] = b""
            return [_said(number, next=pb.NextPiece(file=request.upload.file))]
        if kind == "piece":
            file = request.piece.file
            if request.piece.data:
                self._uploads[file] += request.piece.data
                return [_said(number, next=pb.NextPiece(file=file))]
            data = self._uploads.pop(file)
            if data == b"refused":
                done = pb.FileDone(
                    file=file, failure=pb.FILE_FAILURE_REFUSED, detail="the network refuses it"
                )
                return [_said(number, file_done=done)]
            self._files.append(data)
            stored = pb.StoredFile(url="https://files", sha256=b"s" * 32, size_bytes=len(data))
            steps = steps_of(pb.DEVICE_STEP_KIND_STORE_FILE)
            return [_said(number, file_done=pb.FileDone(file=file, stored=stored, steps=steps))]
        if kind == "download":
            file = request.download.file
            if request.download.reference == b"gone":
                done = pb.FileDone(file=file, failure=pb.FILE_FAILURE_GONE, detail="no such file")
                return [_said(number, file_done=done)]
            pieces = [_said(number, piece=pb.FilePiece(file=file, data=data)) for data in self._files]
            steps = steps_of(pb.DEVICE_STEP_KIND_FETCH_FILE)
            return [*pieces, _said(number, file_done=pb.FileDone(file=file, steps=steps))]
        return []

    def _answers(self, request: pb.RunRequest) -> list[bytes]:
        number, kind = request.connection, request.WhichOneof("request")
        if kind == "start":
            if (speaks := int(os.environ.get(SPEAKS, "1"))) == 0:
                return []
            started = pb.SidecarStarted(protocol=speaks, version="fake", client_version="2.3000")
            return [_said(number, started=started)]
        if kind == "open":
            identity = pb.DeviceIdentity(phone="+4915", user_id="4915")
            return [_said(number, connected=pb.DeviceConnected(identity=identity))]
        if kind == "pair":
            return [_said(number, pairing_code=pb.DevicePairingCode(qr=CODE))]
        if kind == "ping" and BEHIND in os.environ:
            return [_said(number, log=pb.LogLine(message="busy"))]
        if kind == "ping":
            return [_said(number, heard=pb.NetworkHeard())]
        if kind == "close":
            return [_said(number, closed=pb.ConnectionClosed())]
        if kind == "log_out":
            return [_said(number, ended=pb.DeviceEnded(end=pb.DEVICE_END_LOGGED_OUT))]
        if kind == "call":
            numbers = [pb.DeviceNumber(phone=phone) for phone in request.call.check_numbers.phones]
            result = pb.DeviceCallResult(sequence=request.call.sequence, numbers=numbers)
            return [_said(number, call_result=result)]
        if kind == "send":
            if request.send.recipient == SAY:
                return [request.send.message]
            steps = (
                steps_of(pb.DEVICE_STEP_KIND_ENCRYPT, pb.DEVICE_STEP_KIND_WAIT) if request.send.traced else ()
            )
            acked = pb.MessageAcked(network_message_id=request.send.network_message_id, steps=steps)
            return [_said(number, acked=acked)]
        return self._of_file(request)


def steps_of(*kinds: pb.DeviceStepKind.ValueType) -> list[pb.DeviceStep]:
    """Steps that took a nanosecond each."""
    return [
        pb.DeviceStep(kind=kind, start_nanos=began, end_nanos=began + 1)
        for began, kind in enumerate(kinds, 1)
    ]


def _said(connection: int, **response: Any) -> bytes:
    return pb.RunResponse(connection=connection, **response).SerializeToString()


async def main() -> None:
    """Speak over standard input until that closes."""
    fake = await FakeSidecar.speak(socket.socket(fileno=sys.stdin.fileno()))
    await fake.ended


if __name__ == "__main__":
    asyncio.run(main())
