"""MediaFilter, checked and as a query, and as jobs keep it."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence

from asyncpg.pgproto.pgproto import UUID

from mesh_core import ids
from mesh_core.ids import Prefix
from mesh_core.validation import at_least, labels, text, timestamp
from mesh_media.repository.listing import MediaQuery
from sessionmesh.v1 import media_pb2

MAX_LABELS = 16


def media_query(
    wanted: media_pb2.MediaFilter, tenant: UUID, accounts: Sequence[UUID] | None = None
) -> MediaQuery:
    """What the filter matches; of `accounts` only, where a key is limited to these. Raises `InvalidField`."""
    return MediaQuery(
        tenant=tenant,
        accounts=accounts,
        account=ids.decode(Prefix.ACCOUNT, wanted.account_id, "filter.account_id")
        if wanted.account_id
        else None,
        category=wanted.category,
        mime_type_prefix=text("filter.mime_type_prefix", wanted.mime_type_prefix, 127),
        origin=wanted.origin,
        labels=labels("filter.labels", wanted.labels, MAX_LABELS),
        start=timestamp("filter.start_time", wanted.start_time) if wanted.HasField("start_time") else None,
        end=timestamp("filter.end_time", wanted.end_time) if wanted.HasField("end_time") else None,
        min_size=at_least("filter.min_size_bytes", wanted.min_size_bytes, 0),
        state=wanted.state,
    )


def detail_of_filter(wanted: media_pb2.MediaFilter) -> str:
    """A filter as a job's detail has it."""
    return json.dumps({"filter": b64encode(wanted.SerializeToString()).decode()})


def query_of_detail(detail: str, tenant: UUID) -> MediaQuery:
    """What a job's filter matches."""
    return media_query(media_pb2.MediaFilter.FromString(b64decode(json.loads(detail)["filter"])), tenant)
