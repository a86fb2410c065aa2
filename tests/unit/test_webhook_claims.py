"""A claimed delivery's public id, and the state that an attempt leaves a delivery in."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mesh_core import ids
from mesh_core.ids import Prefix, new_uuid
from mesh_webhook.deliveries.claims import ClaimedDelivery, Completion
from mesh_webhook.deliveries.http_sender import AttemptResult
from sessionmesh.v1 import webhook_pb2

NOW = datetime.now(UTC)


def test_a_webhook_id_is_the_deliverys() -> None:
    delivery = new_uuid()
    claimed = ClaimedDelivery(
        delivery, new_uuid(), new_uuid(), new_uuid(), 1, new_uuid(), "a.b", 0, b"", "", NOW
    )
    assert ids.decode(Prefix.DELIVERY, claimed.webhook_id, "id") == delivery


@pytest.mark.parametrize(
    ("status", "error", "retry_in", "state"),
    [
        (204, "", None, webhook_pb2.DELIVERY_STATE_SUCCEEDED),
        (200, "the body was cut off", 5.0, webhook_pb2.DELIVERY_STATE_PENDING),
        (500, "HTTP 500", 0.0, webhook_pb2.DELIVERY_STATE_PENDING),
        (500, "HTTP 500", None, webhook_pb2.DELIVERY_STATE_FAILED),
        (0, "cannot connect", None, webhook_pb2.DELIVERY_STATE_FAILED),
    ],
)
def test_an_attempt_leaves_its_delivery_succeeded_pending_or_failed(
    status: int, error: str, retry_in: float | None, state: int
) -> None:
    result = AttemptResult(status, error, b"", None, NOW, 0.1)
    assert Completion(new_uuid(), new_uuid(), result, retry_in).state == state
