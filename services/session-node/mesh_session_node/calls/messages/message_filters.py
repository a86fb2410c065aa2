"""Which messages a listing asks for."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from asyncpg.pgproto.pgproto import UUID

from mesh_core import addresses, validation
from mesh_core.errors import InvalidField
from mesh_session_node.calls.messages.send_validation import MAX_LABELS
from mesh_session_node.store.messages import MessageFilter
from sessionmesh.v1 import common_pb2
from sessionmesh.v1 import message_pb2 as pb

MAX_LABEL_RANGE = timedelta(days=1)
"""How long a time messages may be found in by their labels, which no index has."""


def message_filter(request: pb.ListMessagesRequest, after: UUID | None) -> MessageFilter:
    """The filters of a request, but for the network's id and a person's other addresses, which must be looked
    up. Raises `InvalidField`.
    """
    validation.text("network_message_id", request.network_message_id)
    validation.text("external_id", request.external_id)
    start = end = None
    if request.HasField("start_time"):
        start = max(_FIRST, validation.timestamp("start_time", request.start_time))
    if request.HasField("end_time"):
        end = max(_FIRST, validation.timestamp("end_time", request.end_time))
    labels = validation.labels("labels", request.labels, MAX_LABELS)
    if labels and (start is None or end is None or end - start > MAX_LABEL_RANGE):
        raise InvalidField("labels", "needs start_time and end_time, at most 24 hours apart")
    return MessageFilter(
        chats=[addresses.chat("chat", request.chat)] if request.chat else None,
        direction=request.direction,
        statuses=request.statuses,
        start=start,
        end=end,
        after=after,
        oldest_first=request.order == common_pb2.LIST_ORDER_OLDEST_FIRST,
        external_id=request.external_id or None,
        labels=json.dumps(labels) if labels else None,
    )


_FIRST = datetime(1970, 1, 1, tzinfo=UTC)  # ids begin with the milliseconds since then
