"""What the Python client takes for a webhook of the mesh."""

from __future__ import annotations

import pytest

from mesh_client import WebhookVerificationError, verify_webhook
from tests.support.webhook_vectors import WebhookVector, webhook_vectors


def verify(vector: WebhookVector, headers: dict[str, str] | None = None, *, tolerance: float = 300.0) -> str:
    """The type of the event."""
    given = vector.headers if headers is None else headers
    return verify_webhook(
        vector.secret, given, vector.body.encode(), tolerance=tolerance, now=vector.now
    ).type


@pytest.mark.parametrize("vector", [vector for vector in webhook_vectors() if vector.valid], ids=str)
def test_what_the_mesh_signed_lately_is_taken(vector: WebhookVector) -> None:
    verify(vector)


@pytest.mark.parametrize("vector", [vector for vector in webhook_vectors() if not vector.valid], ids=str)
def test_what_it_did_not_sign_or_not_lately_is_refused(vector: WebhookVector) -> None:
    with pytest.raises(WebhookVerificationError):
        verify(vector)


def test_the_event_is_typed_and_headers_may_be_written_in_any_case() -> None:
    vector = webhook_vectors()[0]
    assert (
        verify(vector, {name.title(): value for name, value in vector.headers.items()}) == "message.received"
    )


def test_a_tolerance_of_ones_own_is_held_to() -> None:
    (old,) = (vector for vector in webhook_vectors() if vector.why == "five minutes old")
    with pytest.raises(WebhookVerificationError):
        verify(old, tolerance=299.0)


@pytest.mark.parametrize("secret", ["", "whsec_", "smk_1", "whsec_not base64"])
def test_what_can_be_no_secret_is_the_programs_error(secret: str) -> None:
    vector = webhook_vectors()[0]
    with pytest.raises(ValueError, match="whsec_"):
        verify_webhook(secret, vector.headers, vector.body.encode(), now=vector.now)
