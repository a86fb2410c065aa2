"""A program that stands in for the sidecar of linked devices: it does what the test has it do.

It logs every device in, acknowledges what is sent, and closes what is to be closed. What is sent to `SAY` it
says instead of sending it, byte for byte, on the stream. What it is told it appends to the file that
FAKE_SIDECAR_HEARD names. FAKE_SIDECAR_PROTOCOL is the version that it speaks; 0: it says nothing at all.
FAKE_SIDECAR_VERSION is what it says of that when only its version is asked for; `mute`: nothing. With
FAKE_SIDECAR_BEHIND it says something else whenever it is asked whether it is there.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

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
SERVICE = pb.DESCRIPTOR.services_by_name["LinkedDeviceService"].full_name


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


class FakeSidecar:
    """Serves one stream."""

    def __init__(self) -> None:
        self._files: list[bytes] = []

    async def run(self, requests: AsyncIterator[pb.RunRequest], context: Any) -> None:
        with open(os.environ[HEARD], "a") as heard:  # noqa: ASYNC230 - a test's file
            async for request in requests:
                heard.write(base64.b64encode(request.SerializeToString()).decode() + "\n")
                heard.flush()
                for answer in self._answers(request):
                    await context.write(answer)

    async def upload(self, requests: AsyncIterator[pb.UploadFileRequest], context: Any) -> Any:
        data = b"".join([request.data async for request in requests])
        if data == b"refused":
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the network refuses it")
        self._files.append(data)
        return pb.UploadFileResponse(url="https://files", sha256=b"s" * 32, size_bytes=len(data))

    async def download(self, request: pb.DownloadFileRequest, context: Any) -> None:
        if request.file == b"gone":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such file")
        for data in self._files:
            await context.write(pb.DownloadFileResponse(data=data))

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
            return [_said(number, acked=pb.MessageAcked(network_message_id=request.send.network_message_id))]
        return []


def _said(connection: int, **response: Any) -> bytes:
    return pb.RunResponse(connection=connection, **response).SerializeToString()


async def serve(socket: str) -> grpc.aio.Server:
    """A server on that socket."""
    fake = FakeSidecar()
    handlers: dict[str, Any] = {
        "Run": grpc.stream_stream_rpc_method_handler(fake.run, pb.RunRequest.FromString),
        "UploadFile": grpc.stream_unary_rpc_method_handler(
            fake.upload, pb.UploadFileRequest.FromString, pb.UploadFileResponse.SerializeToString
        ),
        "DownloadFile": grpc.unary_stream_rpc_method_handler(
            fake.download, pb.DownloadFileRequest.FromString, pb.DownloadFileResponse.SerializeToString
        ),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    return server


async def main(socket: str) -> None:
    """Serve until standard input ends."""
    server = await serve(socket)
    await asyncio.to_thread(sys.stdin.buffer.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[sys.argv.index("--socket") + 1]))
