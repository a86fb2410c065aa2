"""What can go wrong with etcd, as domain errors."""

from __future__ import annotations

from grpc import StatusCode
from grpc.aio import AioRpcError

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


def from_rpc(error: AioRpcError) -> MeshError:
    """The domain error for a failed call."""
    detail = f"{error.code().name} {error.details() or ''}".strip()
    return EtcdUnavailable(detail) if error.code() in UNANSWERED else EtcdRefused(detail)
