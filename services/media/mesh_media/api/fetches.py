"""FetchMedia and LookupMedia: files whose bytes the caller does not send."""

from __future__ import annotations

from asyncpg.pgproto.pgproto import UUID

from mesh_core import validation
from mesh_core.database.requests import Method, request_digest
from mesh_core.egress import check_headers
from mesh_core.errors import InvalidField, NotFound, ResourceExhausted
from mesh_core.rpc.auth import Identity
from mesh_media.ingest.announcements import announce, whose
from mesh_media.ingest.ingest import Ingest
from mesh_media.repository.media_repository import MediaRepository
from mesh_media.repository.rows import FETCH, MediaRow, NewWork, WorkRow
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
        fetching = self._ingest.fetching
        if headers and fetching.own_of(tenant) >= MOST_HELD - fetching.own:
            raise ResourceExhausted(
                "too many fetches with headers wait here", "RATE_LIMITED", quota="fetches", retry_after=1.0
            )
        options = announcement.options.SerializeToString()
        work = NewWork(FETCH, options, url, bool(headers), CLAIM) if headers else NewWork(FETCH, options, url)
        new = announcement.media(0, None)
        row = await self._ingest.media.add(
            new, None, (Method.FETCH_MEDIA, request.request_id, _digest(request)), work
        )
        if row.id == new.id and headers:
            self._ingest.fetches.remember(row.id, headers)
            self._ingest.fetching.add(WorkRow(row.id, tenant, FETCH, options, url, True, 0))
        else:
            self._ingest.fetching.wake()
        return row


async def look_up(
    media: MediaRepository, request: media_pb2.LookupMediaRequest, identity: Identity
) -> MediaRow:
    """The newest READY media with these bytes that the caller may know of. Raises `NotFound`."""
    tenant = UUID(identity.tenant_for(request.tenant_id).bytes)
    if len(request.sha256) != 32:
        raise InvalidField("sha256", "must be 32 bytes")
    row = await media.look_up(tenant, request.sha256, identity.account_uuids)
    if row is None:
        raise NotFound("media with sha256", request.sha256.hex())
    return row


def _digest(request: media_pb2.FetchMediaRequest) -> bytes:
    """Without the headers, of which nothing is stored."""
    said = media_pb2.FetchMediaRequest()
    said.CopyFrom(request)
    said.ClearField("headers")
    return request_digest(said)
