"""What a tenant used, by day."""

from __future__ import annotations

from datetime import UTC, date, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from mesh_core.database import Database
from mesh_core.errors import InvalidField, NotFound
from mesh_core.rpc.auth import current_identity
from mesh_core.usage.counts import COLUMNS
from sessionmesh.v1 import tenant_pb2

MOST_DAYS = 366
"""In one answer."""
DEFAULT_DAYS = 30


class TenantUsage:
    """Reads what every part has counted (`mesh_core.usage`)."""

    def __init__(self, database: Database) -> None:
        self._callers = database.callers

    async def get(self, request: tenant_pb2.GetTenantUsageRequest) -> tenant_pb2.GetTenantUsageResponse:
        """For a tenant's key only that tenant exists. Raises `InvalidField` and `NotFound`."""
        tenant = current_identity().tenant_for(request.tenant_id)
        first, last = _days(request)
        rows = await self._callers.of(current_identity().tenant_id).search(_GET, tenant, first, last)
        if not rows:
            raise NotFound("tenant", request.tenant_id)
        days = (
            tenant_pb2.TenantDayUsage(day=row["day"].isoformat(), **{name: row[name] for name in COLUMNS})
            for row in rows
            if row["day"] is not None
        )
        return tenant_pb2.GetTenantUsageResponse(days=days)


def _days(request: tenant_pb2.GetTenantUsageRequest) -> tuple[date, date]:
    last = _day("end_time", request.end_time) if request.HasField("end_time") else datetime.now(UTC).date()
    if not request.HasField("start_time"):
        return date.fromordinal(max(1, last.toordinal() - DEFAULT_DAYS + 1)), last
    first = _day("start_time", request.start_time)
    if first > last:
        raise InvalidField("start_time", "must not be after end_time")
    if (last - first).days >= MOST_DAYS:
        raise InvalidField("start_time", f"must be less than {MOST_DAYS} days before end_time")
    return first, last


def _day(field: str, time: Timestamp) -> date:
    try:
        return time.ToDatetime(UTC).date()
    except (ValueError, OverflowError):
        raise InvalidField(field, "must be a time of the years 1 to 9999") from None


_GET = f"""SELECT u.day, {", ".join(f"u.{name}" for name in COLUMNS)}
  FROM tenant t LEFT JOIN tenant_usage u ON u.tenant = t.id AND u.day BETWEEN $2 AND $3
  WHERE t.id = $1 ORDER BY u.day"""  # noqa: S608 - our own names
