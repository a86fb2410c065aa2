"""The calls about all of a tenant's files: which there are, how much that is, how long they stay."""

from __future__ import annotations

from collections.abc import Callable

from mesh_core.database import Database
from mesh_core.paging import Pager
from mesh_media.api.listings import Listings
from mesh_media.api.policies import Policies
from mesh_media.api.prunes import Prunes
from mesh_media.api.usage import UsageReports
from mesh_media.repository.listing import MediaListing
from mesh_media.repository.policy_repository import PolicyRepository
from mesh_media.repository.usage_repository import UsageRepository


class Stock:
    """What serves them; `prune_begun` is called after each job that was begun."""

    def __init__(self, database: Database, pager: Pager, prune_begun: Callable[[], None]) -> None:
        self.listings = Listings(MediaListing(database), pager)
        self.usage = UsageReports(UsageRepository(database), pager)
        self.policies = Policies(PolicyRepository(database))
        self.prunes = Prunes(database, prune_begun)
