"""FetchMedia and LookupMedia: files whose bytes the caller does not send."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from asyncpg.pgproto.pgproto import UUID

from mesh_core import validation
from mesh_core.database import UNAVAILABLE
from mesh_core.database.requests import Method, request_digest
from mesh_core.egress import check_headers
from mesh_core.errors import InvalidField, NotFound, ResourceExhausted
from mesh_core.rpc.auth import Identity
from mesh_media.ingest.announcements import announce, whose
from mesh_media.ingest.ingest import Ingest
from mesh_media.ingest.intake import Request
from mesh_media.repository.media_repository import MediaRepository
from mesh_media.repository.rows import FETCH, MediaRow, NewMedia, NewWork, WorkRow
from mesh_media.repository.work_repository import CLAIM
from sessionmesh.v1 import media_pb2

MOST_HELD = 1000
"""Fetches with headers that wait in a process, which alone has the headers. A tenant may have another one
while it has fewer than are free, so one alone has half.
"""


class FetchRequests:
    """Accepts what is to be fetched."""

    def __init__(self, ingest: Ingest) -> None:
        self._ingest = ingest
        self._storing: Counter[UUID] = Counter()

    async def accept(self, request: media_pb2.FetchMediaRequest, identity: Identity) -> MediaRow:
        """The media, PENDING; or the one that the same request made before.

        Raises `InvalidField`, `NotFound`, `FailedPrecondition` ADDRESS_FORBIDDEN, `ResourceExhausted`
        RATE_LIMITED, `AlreadyExists` REQUEST_ID_REUSED.
        """
        validation.request_id(request.request_id)
        tenant, account = whose(identity, request.tenant_id, request.account_id)
        headers = check_headers("headers", request.headers)
        origin = media_pb2.MEDIA_ORIGIN_URL
        policy = await self._ingest.policies.of(tenant)
        announcement = announce((tenant, account), origin, request.options, policy, "options")
        url = await self._ingest.web.check("url", request.url)
        await self._ingest.media.check_owner(tenant, account)
        new = announcement.media(0, None)
        method = (Method.FETCH_MEDIA, request.request_id, _digest(request))
        options = announcement.options.SerializeToString()
        if headers:
            with self._place(tenant):
                return await self._add_held(new, method, options, url, headers)
        row = await self._ingest.media.add(new, None, method, NewWork(FETCH, options, url))
        self._ingest.fetching.wake()
        return row

    async def _add_held(
        self, new: NewMedia, method: Request, options: bytes, url: str, headers: Mapping[str, str]
    ) -> MediaRow:
        def hold() -> None:
            self._ingest.fetches.remember(new.id, headers)
            self._ingest.fetching.add(WorkRow(new.id, new.tenant, FETCH, options, url, True, 0))

        try:
            row = await self._ingest.media.add(new, None, method, NewWork(FETCH, options, url, True, CLAIM))
        except _UNKNOWN:
            hold()  # it may be there all the same; where it is not, there is nothing to do
            raise
        if row.id == new.id:
            hold()
        return row

    @contextmanager
    def _place(self, tenant: UUID) -> Iterator[None]:
        """A place among what waits here, for a request that is being stored."""
        fetching, storing = self._ingest.fetching, self._storing
        if fetching.own_of(tenant) + storing[tenant] >= MOST_HELD - fetching.own - storing.total():
            raise ResourceExhausted(
                "too many fetches with headers wait here", "RATE_LIMITED", quota="fetches", retry_after=1.0
            )
        storing[tenant] += 1
        try:
            yield
        finally:
            self._storing -= Counter([tenant])


async def look_up(
    media: MediaRepository, request: media_pb2.LookupMediaRequest, identity: Identity
) -> MediaRow:
    """The newest READY media with these bytes that the caller may know of. Raises `NotFound`."""
    tenant = UUID(identity.tenant_for(request.tenant_id).bytes)
    if len(request.sha256) != 32:
        raise InvalidField("sha256", "must be 32 bytes")
    accounts = identity.account_uuids
    row = await media.look_up(tenant, request.sha256, accounts)
    if row is not None and accounts is not None:
        row = await media.seen_by(row, accounts)
    if row is None:
        raise NotFound("media with sha256", request.sha256.hex())
    return row


_UNKNOWN: tuple[type[BaseException], ...] = (asyncio.CancelledError, *UNAVAILABLE)
"""What leaves it open whether a row was stored."""


def _digest(request: media_pb2.FetchMediaRequest) -> bytes:
    """Without the headers, of which nothing is stored."""
    said = media_pb2.FetchMediaRequest()
    said.CopyFrom(request)
    said.ClearField("headers")
    return request_digest(said)
