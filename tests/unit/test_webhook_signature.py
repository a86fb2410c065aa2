"""Signatures, against the standard's own library."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from mesh_core.errors import InvalidField
from mesh_webhook.endpoints.signature import new_secret, secret_key, sign


def headers(keys: list[bytes], body: bytes) -> dict[str, str]:
    now = int(datetime.now(UTC).timestamp())
    return {
        "webhook-id": "del_1",
        "webhook-timestamp": str(now),
        "webhook-signature": sign(keys, "del_1", now, body),
    }


@given(key=st.binary(min_size=24, max_size=64), text=st.text())
def test_a_signature_is_what_the_standard_library_verifies(key: bytes, text: str) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    assert secret_key(secret) == key
    body = b'{"a": "%s"}' % base64.b64encode(text.encode())
    Webhook(secret).verify(body, headers([key], body))


def test_each_key_signs() -> None:
    secrets = [new_secret(), new_secret()]
    signed = headers([secret_key(secret) for secret in secrets], b"{}")
    for secret in secrets:
        Webhook(secret).verify(b"{}", signed)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(b"{}", signed)


def test_an_altered_body_does_not_verify() -> None:
    secret = new_secret()
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(b"[]", headers([secret_key(secret)], b"{}"))


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        base64.b64encode(bytes(32)).decode(),
        "whsec_" + "ä" * 44,
        "whsec_" + "-" * 44,
    ],
)
def test_a_bad_secret_is_refused(secret: str) -> None:
    with pytest.raises(InvalidField, match="24 to 64 bytes"):
        secret_key(secret)
