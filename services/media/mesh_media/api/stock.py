"""The calls about all of a tenant's files: which there are, how much that is, how long they stay."""

from __future__ import annotations

from collections.abc import Callable

from asyncpg.pgproto.pgproto import UUID

from mesh_core.database import Database
from mesh_core.errors import NotFound
from mesh_core.paging import Pager
from mesh_core.rpc.auth import current_identity
from mesh_media.api.policies import Policies
from mesh_media.api.prunes import Prunes
from mesh_media.api.usage import UsageReports
from mesh_media.repository.filters import media_query
from mesh_media.repository.listing import MediaListing
from mesh_media.repository.policy_repository import PolicyRepository
from mesh_media.repository.resource import media_message
from mesh_media.repository.usage_repository import UsageRepository
from sessionmesh.v1 import media_pb2


class Stock:
    """What serves them; `prune_begun` is called after each job that was begun."""

    def __init__(self, database: Database, pager: Pager, prune_begun: Callable[[], None]) -> None:
        self.listings = Listings(MediaListing(database), pager)
        self.usage = UsageReports(UsageRepository(database), pager)
        self.policies = Policies(PolicyRepository(database))
        self.prunes = Prunes(database, prune_begun)


class Listings:
    """Pages of what a filter matches."""

    def __init__(self, listing: MediaListing, pager: Pager) -> None:
        self._listing = listing
        self._pager = pager

    async def list(self, request: media_pb2.ListMediaRequest) -> media_pb2.ListMediaResponse:
        """Newest first. Raises `InvalidField`, and `NotFound` for an account that the key is not good for."""
        identity = current_identity()
        tenant = UUID(identity.tenant_for(request.tenant_id).bytes)
        if request.filter.account_id and not identity.sees_account(request.filter.account_id):
            raise NotFound("account", request.filter.account_id)
        page = self._pager.page(request, tenant.bytes)
        wanted = media_query(request.filter, tenant, identity.account_uuids)
        rows = await self._listing.page(wanted, page.after_id, page.fetch)
        shown, next_page = page.cut(rows, media_message, lambda row: row.id.bytes)
        return media_pb2.ListMediaResponse(media=shown, next_page_token=next_page)
