"""What every call passes through on its way in, and what it is a call of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import grpc
import structlog
from google.rpc import status_pb2

from mesh_core import errors
from mesh_core.rpc.audit import AuditedCall, AuditLog
from mesh_core.rpc.auth import AccountLimit, Authenticator, Identity, Role
from mesh_core.rpc.limits import Entry
from mesh_core.rpc.server.bodies import Bodies
from mesh_core.rpc.server.drain import CallsInFlight, Draining
from mesh_core.rpc.server.open_streams import OpenStreams
from mesh_core.rpc.server.parsing import Context
from mesh_core.rpc.server.refusals import Refusals
from mesh_core.rpc.server.strangers import Strangers
from mesh_core.telemetry import tracing
from sessionmesh.v1.authorization_pb2 import CallClass, Scope

logger = structlog.get_logger(__name__)

RpcHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
ServeBytes = Callable[[bytes, Context], Awaitable[bytes]]


class NotOwnerHandler(Protocol):
    """What a server does with a unary call that its handler refused with `NotOwner`."""

    async def __call__(self, path: str, request: bytes, context: Context, refused: errors.NotOwner) -> bytes:
        """The owner's response; raises `refused` when it cannot be had."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method as it is served. `takes_stream` says that its requests are a stream, `streams` that its
    answers are, and `limit` what keys that are limited to accounts may ask of it. `call_class` is what a call
    is counted as, 0 for one that is not counted here; `names_account`: field 1 of its request is
    `account_id`. `audited` has what is noted of its calls, None: nothing.
    """

    service: str
    name: str
    scope: Scope.ValueType
    takes_stream: bool
    streams: bool
    limit: AccountLimit
    call_class: CallClass.ValueType
    names_account: bool
    audited: AuditedCall | None = None

    @property
    def path(self) -> str:
        """As on the wire: /service/name."""
        return f"/{self.service}/{self.name}"


@dataclass(slots=True)
class Gate:
    """What the calls of one server have in common."""

    authenticator: Authenticator
    draining: Draining
    in_flight: CallsInFlight
    entry: Entry
    open_streams: OpenStreams
    strangers: Strangers
    refusals: Refusals
    bodies: Bodies
    audit: AuditLog | None = None
    not_owner_handler: NotOwnerHandler | None = None

    def note(
        self,
        method: Method,
        identity: Identity | None,
        asked: object,
        answer: object,
        ended: status_pb2.Status,
        context: Context,
    ) -> None:
        """Have a call that has ended noted by the audit log, if calls of its method are, unless a part of the
        mesh made it by itself.
        """
        if self.audit is None or method.audited is None or (identity and identity.role is Role.MESH):
            return
        metadata, source = context.invocation_metadata(), self.entry.sources.of(context)
        traceparent = tracing.current_traceparent()
        try:
            self.audit.add(
                method.audited.record(identity, asked, answer, ended, metadata, source, traceparent)
            )
        except Exception:  # what a stranger sent: the call has ended, and its answer stands
            logger.exception("a call was not noted", method=method.path)
