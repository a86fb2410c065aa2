"""ListMedia."""

from __future__ import annotations

from asyncpg.pgproto.pgproto import UUID

from mesh_core.paging import Pager
from mesh_core.rpc.auth import current_identity
from mesh_media.repository.filters import media_query
from mesh_media.repository.listing import MediaListing
from mesh_media.repository.resource import media_message
from sessionmesh.v1 import media_pb2


class Listings:
    """Pages of what a filter matches."""

    def __init__(self, listing: MediaListing, pager: Pager) -> None:
        self._listing = listing
        self._pager = pager

    async def list(self, request: media_pb2.ListMediaRequest) -> media_pb2.ListMediaResponse:
        """Newest first. Raises `InvalidField`."""
        identity = current_identity()
        tenant = UUID(identity.tenant_for(request.tenant_id).bytes)
        page = self._pager.page(request, tenant.bytes)
        wanted = media_query(request.filter, tenant, identity.account_uuids)
        rows = await self._listing.page(wanted, page.after_id, page.fetch)
        shown, next_page = page.cut(rows, media_message, lambda row: row.id.bytes)
        return media_pb2.ListMediaResponse(media=shown, next_page_token=next_page)
