"""How a unary call to another part of the mesh ended, whichever way it went there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from grpc.aio import AioRpcError

from mesh_core.rpc.peers.metadata import Metadata


@dataclass(frozen=True, slots=True)
class Response:
    """It ended OK."""

    body: bytes
    initial: Metadata = ()
    trailing: Metadata = ()


class CallFailed(Exception):
    """It failed. `begun` is False when the peer certainly never began it."""

    def __init__(
        self, code: StatusCode, message: str, trailing: Metadata = (), *, begun: bool = True
    ) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.trailing = trailing
        self.begun = begun

    @classmethod
    def of(cls, error: AioRpcError) -> Self:
        """The same of a call that travelled by itself."""
        return cls(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))

    @cached_property
    def reason(self) -> str:
        """The `ErrorReason`; "" when it has no details: then it is gRPC's own failure, not the service's."""
        for key, value in self.trailing:
            if key == _DETAILS and isinstance(value, bytes):
                return _reason(value)
        return ""


def _reason(details: bytes) -> str:
    info = error_details_pb2.ErrorInfo()
    try:
        for packed in status_pb2.Status.FromString(details).details:
            if packed.Unpack(info):
                return str(info.reason)
    except DecodeError:
        pass
    return "UNREADABLE"


_DETAILS = "grpc-status-details-bin"
