"""Media that came with messages: fetched from the network and stored with the media service, until it is
done.

The mark to fetch is a row that was stored with the message, so it survives whatever happens to this process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.errors import MeshError
from mesh_core.ids import Prefix, encode
from mesh_core.rpc.server.status import from_rpc_error
from mesh_session_node import metrics, validation
from mesh_session_node.drivers.interface.outcomes import BlobUnavailable, ConnectionEnded
from mesh_session_node.journal import ContentUpdate, FetchDone, FetchRetry
from mesh_session_node.media_client import MediaClient
from mesh_session_node.queries import Queries
from sessionmesh.v1 import content_pb2, media_pb2, message_pb2

if TYPE_CHECKING:
    from mesh_session_node.session.session import Session

logger = structlog.get_logger(__name__)

MOST_ATTEMPTS = 12
_FIRST_RETRY, _LONGEST_RETRY = 2.0, 600.0


@dataclass(frozen=True, slots=True)
class Fetch:
    """One message's media to fetch."""

    session: Session
    message: UUID
    blob: bytes
    attempts: int


class InboundMedia:
    """Runs fetches, so many at once."""

    def __init__(
        self,
        client: MediaClient,
        queries: Queries,
        at_once: int,
        max_bytes: int,
        spawn: Callable[[str, Coroutine[Any, Any, None]], None],
    ) -> None:
        self._client = client
        self._queries = queries
        self._room = asyncio.Semaphore(at_once)
        self._max_bytes = max_bytes
        self._spawn = spawn

    def add(self, session: Session, message: UUID, blob: bytes, attempts: int = 0, due: float = 0.0) -> None:
        """Fetch a message's media, at seconds since the epoch."""
        self._spawn(f"fetch media of {message}", self._run(Fetch(session, message, blob, attempts), due))

    async def _run(self, fetch: Fetch, due: float) -> None:
        await asyncio.sleep(max(0.0, due - time.time()))
        await fetch.session.connected()
        async with self._room:
            if fetch.session.closed:
                return
            await self._fetch(fetch)

    async def _fetch(self, fetch: Fetch) -> None:
        session = fetch.session
        row = await self._queries.message(session.ref.uuid, fetch.message)
        if row is None:
            session.host.journal.post(session.ref, FetchDone(fetch.message))
            return
        message = message_pb2.Message.FromString(row["content"])
        reference = validation.media_of(message.content)
        if reference is None or session.link is None:
            self._again(fetch, "no connection")
            return
        limit = self._max_bytes
        if reference.size > limit:
            self._lost(fetch, message, reference, media_pb2.MEDIA_FAILURE_TOO_LARGE)
            return
        header = media_pb2.UploadHeader(
            request_id=f"fetch-{fetch.message.hex}",
            size=reference.size,
            mime_type=reference.mime_type,
            sha256=reference.sha256,
            file_name=message.content.document.file_name,
            origin=media_pb2.MEDIA_ORIGIN_NETWORK,
            keep_original=True,
        )
        try:
            media = await self._client.upload(session.ref.tenant, header, session.link.fetch(fetch.blob))
        except BlobUnavailable as error:
            failure = media_pb2.MEDIA_FAILURE_TOO_LARGE if error.too_large else media_pb2.MEDIA_FAILURE_GONE
            self._lost(fetch, message, reference, failure)
        except grpc.aio.AioRpcError as error:
            known = from_rpc_error(error)
            if known.code in _FINAL:
                failure = (
                    media_pb2.MEDIA_FAILURE_QUOTA
                    if known.reason == "QUOTA_EXCEEDED"
                    else media_pb2.MEDIA_FAILURE_CORRUPT
                )
                self._lost(fetch, message, reference, failure)
            else:
                self._again(fetch, known.message)
        except (ConnectionEnded, MeshError, TimeoutError) as error:
            self._again(fetch, str(error))
        else:
            self._stored(fetch, message, reference, media)

    def _stored(
        self,
        fetch: Fetch,
        message: message_pb2.Message,
        reference: content_pb2.MediaReference,
        media: media_pb2.Media,
    ) -> None:
        metrics.MEDIA.labels("inbound", "stored").inc()
        reference.media_id = media.id
        reference.size, reference.mime_type, reference.sha256 = media.size, media.mime_type, media.sha256
        reference.state = media.state
        self._finish(fetch, message, media, ready=True)

    def _lost(
        self,
        fetch: Fetch,
        message: message_pb2.Message,
        reference: content_pb2.MediaReference,
        failure: media_pb2.MediaFailure.ValueType,
    ) -> None:
        metrics.MEDIA.labels("inbound", "lost").inc()
        reference.state = content_pb2.MEDIA_STATE_FAILED
        media = media_pb2.Media(
            tenant_id=fetch.session.events.tenant_id,
            state=content_pb2.MEDIA_STATE_FAILED,
            failure=failure,
            mime_type=reference.mime_type,
            size=reference.size,
            origin=media_pb2.MEDIA_ORIGIN_NETWORK,
        )
        self._finish(fetch, message, media, ready=False)

    def _finish(
        self, fetch: Fetch, message: message_pb2.Message, media: media_pb2.Media, *, ready: bool
    ) -> None:
        session = fetch.session
        if session.closed:
            return
        event = session.events.media(
            media,
            encode(Prefix.MESSAGE, fetch.message),
            time.time_ns() // 1000,
            message.traceparent,
            ready=ready,
        )
        session.host.journal.post(
            session.ref,
            ContentUpdate(fetch.message, message.SerializeToString()),
            FetchDone(fetch.message),
            event,
        )

    def _again(self, fetch: Fetch, problem: str) -> None:
        session = fetch.session
        if session.closed:
            return
        metrics.MEDIA.labels("inbound", "again").inc()
        logger.info("media not fetched yet", account_id=session.id, attempts=fetch.attempts, problem=problem)
        delay = min(_LONGEST_RETRY, _FIRST_RETRY * 2.0 ** min(fetch.attempts, MOST_ATTEMPTS))
        due = time.time() + delay
        session.host.journal.post(session.ref, FetchRetry(fetch.message, int(due * 1e6)))
        self.add(session, fetch.message, fetch.blob, fetch.attempts + 1, due)


_FINAL = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.NOT_FOUND,
    }
)
