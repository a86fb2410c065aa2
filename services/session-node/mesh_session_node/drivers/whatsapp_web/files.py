"""Files between the network and the mesh, in pieces, as fast as the slower side takes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc.aio import AioRpcError

from mesh_session_node.drivers.interface.content import Blob
from mesh_session_node.drivers.interface.outcomes import BlobUnavailable, ConnectionEnded, End
from mesh_session_node.drivers.whatsapp_web.encoding import blob_of
from sessionmesh.internal.v1 import linked_device_pb2 as pb

_FILES_FAULT = frozenset(
    {
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
"""Trying again does not help."""


async def upload(stub: Any, connection: int, kind: str, pieces: AsyncIterator[bytes]) -> Blob:
    """Store a file with the network. Raises `BlobUnavailable`, `ConnectionEnded`, or what `pieces` does."""
    call = stub.UploadFile()
    try:
        try:
            await call.write(
                pb.UploadFileRequest(header=pb.UploadFileHeader(connection=connection, kind=kind))
            )
            async for piece in pieces:
                await call.write(pb.UploadFileRequest(data=piece))
            await call.done_writing()
        except asyncio.InvalidStateError:
            pass  # the call is over: its outcome says why
        return blob_of(await call)
    except AioRpcError as error:
        raise _raised(error) from None
    finally:
        call.cancel()


async def fetch(stub: Any, connection: int, file: bytes) -> AsyncIterator[bytes]:
    """The pieces of an incoming file. Raises `BlobUnavailable`, `ConnectionEnded`."""
    try:
        async for piece in stub.DownloadFile(pb.DownloadFileRequest(connection=connection, file=file)):
            yield piece.data
    except AioRpcError as error:
        raise _raised(error) from None


def _raised(error: AioRpcError) -> Exception:
    detail = error.details() or error.code().name
    if error.code() in _FILES_FAULT:
        return BlobUnavailable(detail, too_large=error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED)
    return ConnectionEnded(End.LOST, detail)
