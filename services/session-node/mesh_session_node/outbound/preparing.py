"""One account's messages that get ready to be sent: files handed over, links read, references looked up.

What they need may be out of reach for a while, so it is tried again, ever more rarely, and not for ever: a
message that cannot be prepared holds its chat.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.backoff import Backoff
from mesh_core.errors import MeshError
from mesh_core.telemetry import tracing
from mesh_session_node.context.context import SessionContext
from mesh_session_node.outbound.outgoing import Outgoing
from mesh_session_node.outbound.preparation import CannotPrepare, Preparation
from sessionmesh.v1 import message_pb2 as pb

logger = structlog.get_logger(__name__)

MAX_TRIES = 64
"""How often a message is prepared before it fails: what it needs was out of reach for about an hour."""

Failure = tuple[pb.FailureReason.ValueType, str]
"""Why a message cannot be prepared, and what its event says of it."""


class Queue(Protocol):
    """Where messages come from, and go back to."""

    def prepared(self, out: Outgoing, failure: Failure | None) -> None:
        """It can be sent, or must be prepared again; with a `failure`, it never can be."""


class Preparing:
    """`messages` are those that get ready."""

    __slots__ = ("_context", "_preparation", "_queue", "messages")

    def __init__(self, context: SessionContext, preparation: Preparation, queue: Queue) -> None:
        self.messages: dict[UUID, Outgoing] = {}
        self._context = context
        self._preparation = preparation
        self._queue = queue

    def begin(self, out: Outgoing) -> None:
        """Prepare a message, after a pause if that failed before; the queue is told."""
        self.messages[out.uuid] = out
        self._context.host.spawn(f"prepare {out.id}", self._run(out))

    async def _run(self, out: Outgoing) -> None:
        if out.tries:
            await asyncio.sleep(_BACKOFF.after(out.tries - 1))
            if out.uuid not in self.messages:
                return
        out.tries += 1
        failure: Failure | None = None
        try:
            with tracing.span("mesh.node.prepare", parent=out.traceparent, attributes={_MESSAGE: out.id}):
                done = await self._preparation.prepare(self._context, out)
            out.prepared, out.blobs, out.poll = done.payload, done.blobs, done.poll
        except CannotPrepare as error:
            if error.final or out.tries >= MAX_TRIES:
                failure = (error.reason, str(error))
        except Exception as error:  # it would fail the next time, too
            logger.exception("a message cannot be prepared", message_id=out.id)
            detail = error.message if isinstance(error, MeshError) else "it cannot be prepared"
            failure = (pb.FAILURE_REASON_CONTENT_REFUSED, detail)
        # Else it has failed with the pairing, was cancelled, or is the next owner's
        if self.messages.pop(out.uuid, None) is not None:
            self._queue.prepared(out, failure)


_BACKOFF = Backoff(1.0, 60.0)
_MESSAGE = "messaging.message.id"
