"""The errors that calls to etcd raise."""

from __future__ import annotations

from typing import Protocol

from grpc import StatusCode

from mesh_core.errors import FailedPrecondition, MeshError, OutOfRange, Unavailable


class EtcdUnavailable(Unavailable):
    """No endpoint answered in time. Whether a write took effect is unknown."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"etcd: {detail}", "BACKEND_UNAVAILABLE", retry_after=1.0)


class EtcdRefused(FailedPrecondition):
    """etcd refuses the call: bad credentials, no permission, no space, or a malformed request."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"etcd refused: {detail}", "BACKEND_UNAVAILABLE")


class LeaseLost(FailedPrecondition):
    """The lease has expired or was revoked; the keys that hung on it are gone."""

    def __init__(self, lease: int) -> None:
        super().__init__(f"etcd lease {lease:x} is gone", "BACKEND_UNAVAILABLE")
        self.lease = lease


class Compacted(OutOfRange):
    """The changes since the wanted revision were compacted away; `revision` is the oldest that is left."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"etcd history before revision {revision} is compacted", "BACKEND_UNAVAILABLE")
        self.revision = revision


class HistoryLost(OutOfRange):
    """etcd is at an earlier revision than it once was: it was emptied, or restored from a backup."""

    def __init__(self, seen: int, revision: int) -> None:
        super().__init__(f"etcd went back from revision {seen} to {revision}", "BACKEND_UNAVAILABLE")


UNANSWERED = frozenset(
    {
        StatusCode.UNAVAILABLE,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.CANCELLED,
        StatusCode.UNKNOWN,
        StatusCode.INTERNAL,
    }
)
"""Statuses after which another endpoint is tried."""


class FailedCall(Protocol):
    """A failed call of gRPC's blocking or asyncio stack."""

    def code(self) -> StatusCode: ...
    def details(self) -> str | None: ...


def from_rpc(error: FailedCall) -> MeshError:
    """The error to raise for a failed call."""
    detail = f"{error.code().name} {error.details() or ''}".strip()
    return EtcdUnavailable(detail) if error.code() in UNANSWERED else EtcdRefused(detail)
