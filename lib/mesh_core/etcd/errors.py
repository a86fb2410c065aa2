"""What can go wrong with etcd, as domain errors."""

from __future__ import annotations

from typing import Protocol

from grpc import StatusCode

from mesh_core.errors import FailedPrecondition, MeshError, OutOfRange, Unavailable


class EtcdUnavailable(Unavailable):
    """No endpoint answered in time. Whether a write took effect is unknown."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"etcd: {detail}", "BACKEND_UNAVAILABLE", retry_after=1.0)


class EtcdRefused(FailedPrecondition):
    """etcd will not do it: bad credentials, no permission, no space, a malformed request."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"etcd refused: {detail}", "BACKEND_UNAVAILABLE")


class LeaseLost(FailedPrecondition):
    """The lease has expired or was revoked; the keys that hung on it are gone."""

    def __init__(self, lease: int) -> None:
        super().__init__(f"etcd lease {lease:x} is gone", "BACKEND_UNAVAILABLE")
        self.lease = lease


class Compacted(OutOfRange):
    """The history from the wanted revision on is forgotten; `revision` is the oldest one left."""

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
"""Statuses after which another endpoint may do better."""


class FailedCall(Protocol):
    """What both of gRPC's Python stacks raise."""

    def code(self) -> StatusCode: ...
    def details(self) -> str | None: ...


def from_rpc(error: FailedCall) -> MeshError:
    """The domain error for a failed call."""
    detail = f"{error.code().name} {error.details() or ''}".strip()
    return EtcdUnavailable(detail) if error.code() in UNANSWERED else EtcdRefused(detail)
