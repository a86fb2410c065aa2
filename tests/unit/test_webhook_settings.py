"""What the webhook service's settings are refused for."""

from __future__ import annotations

import base64

import pytest

from mesh_core.settings import BadSettings, read
from mesh_webhook.settings import WebhookServiceSettings

NEEDED = {
    "MESH_DATABASE_URL": "postgresql://nowhere/none",
    "MESH_ETCD_ENDPOINTS": "127.0.0.1:1",
    "MESH_SECRETS_MASTER_KEY": base64.b64encode(bytes(32)).decode(),
}


def test_the_defaults_are_good() -> None:
    settings = read(WebhookServiceSettings, NEEDED)
    assert settings.webhook.retry_schedule[0] == 0
    assert settings.webhook.lease_seconds > settings.webhook.timeout_seconds


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MESH_WEBHOOK_RETRY_SCHEDULE", "5,10"),
        ("MESH_WEBHOOK_RETRY_SCHEDULE", "0,-1"),
        ("MESH_WEBHOOK_LEASE_SECONDS", "10"),
        ("MESH_WEBHOOK_IN_FLIGHT", "0"),
    ],
)
def test_a_bad_setting_is_named(variable: str, value: str) -> None:
    with pytest.raises(BadSettings) as caught:
        read(WebhookServiceSettings, NEEDED | {variable: value})
    assert str(caught.value).startswith(variable)
