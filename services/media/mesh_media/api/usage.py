"""GetMediaUsage and ListAccountMediaUsage."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from asyncpg.pgproto.pgproto import UUID
from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core import ids, validation
from mesh_core.errors import NotFound
from mesh_core.ids import Prefix
from mesh_core.paging import Pager
from mesh_core.rpc.auth import current_identity
from mesh_media.repository.usage_repository import AccountUsage, Counts, UsageRepository
from sessionmesh.v1 import media_pb2


class UsageReports:
    """What is stored, by category, age and account."""

    def __init__(self, usage: UsageRepository, pager: Pager) -> None:
        self._usage = usage
        self._pager = pager

    async def of_tenant(self, request: media_pb2.GetMediaUsageRequest) -> media_pb2.GetMediaUsageResponse:
        """Raises `NotFound`."""
        usage = await self._usage.of_tenant(UUID(current_identity().tenant_for(request.tenant_id).bytes))
        return media_pb2.GetMediaUsageResponse(
            stored=_count((usage.files, usage.bytes)),
            reserved_bytes=usage.reserved_bytes,
            max_bytes=usage.max_bytes,
            shared_bytes=usage.shared_bytes,
            compressed_bytes=usage.compressed_bytes,
            by_category=_categories(usage.by_category),
            by_age=[
                media_pb2.MediaAgeUsage(age=media_pb2.MediaAge.ValueType(age), stored=_count(counts))
                for age, counts in usage.by_age.items()
            ],
            report_time=_report_time(usage.report_time),
        )

    async def of_accounts(
        self, request: media_pb2.ListAccountMediaUsageRequest
    ) -> media_pb2.ListAccountMediaUsageResponse:
        """A key that is limited to accounts sees theirs. Raises `InvalidField`, `NotFound`."""
        identity = current_identity()
        tenant = UUID(identity.tenant_for(request.tenant_id).bytes)
        page = self._pager.page(request, tenant.bytes)
        accounts = identity.account_uuids
        if request.account_id:
            accounts = [ids.decode(Prefix.ACCOUNT, request.account_id, "account_id")]
            if not identity.sees_account(request.account_id):
                raise NotFound("account", request.account_id)
        after = None if page.after is None else _read_position(page.after)
        rows, time = await self._usage.of_accounts(tenant, accounts, after, page.fetch)
        shown, next_page = page.cut(rows, _account_message, _position)
        return media_pb2.ListAccountMediaUsageResponse(
            accounts=shown, next_page_token=next_page, report_time=_report_time(time)
        )


def _report_time(time: datetime | None) -> Timestamp | None:
    return None if time is None else validation.to_timestamp(time)


def _account_message(row: AccountUsage) -> media_pb2.AccountMediaUsage:
    return media_pb2.AccountMediaUsage(
        account_id=ids.encode(Prefix.ACCOUNT, row.account),
        stored=_count((row.files, row.bytes)),
        by_category=_categories(row.by_category),
    )


def _categories(counts: Counts) -> Iterator[media_pb2.MediaCategoryUsage]:
    """In their order; what nothing refers to may be of a category that has references, too."""
    for category in sorted(counts):
        yield media_pb2.MediaCategoryUsage(
            category=media_pb2.MediaCategory.ValueType(category), stored=_count(counts[category])
        )


def _count(counts: tuple[int, int]) -> media_pb2.MediaCount:
    files, size = counts
    return media_pb2.MediaCount(objects=files, size_bytes=size)


def _position(row: AccountUsage) -> bytes:
    return row.bytes.to_bytes(8, "big") + row.account.bytes


def _read_position(position: bytes) -> tuple[int, UUID]:
    return int.from_bytes(position[:8], "big"), UUID(position[8:])
