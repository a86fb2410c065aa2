"""Verifies webhooks by Standard Webhooks 1.0.0: HMAC-SHA256 over `id.timestamp.body`."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import time
from collections.abc import Mapping
from hashlib import sha256

from google.protobuf import json_format

from sessionmesh.v1 import event_pb2


class WebhookVerificationError(Exception):
    """The mesh did not sign the request with this secret, or not lately: answer it with 401."""


def verify_webhook(
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    tolerance: float = 300.0,
    now: float | None = None,
) -> event_pb2.Event:
    """The event in a webhook, once its signature is verified.

    `secret` is the endpoint's, `whsec_...`; `body` is what came, byte for byte, before anything parsed it.
    `webhook-timestamp` may be up to `tolerance` seconds from `now`, in seconds since 1970; the present unless
    it is given. Raises `WebhookVerificationError`, and `ValueError` for what can be no secret.
    """
    key = _key(secret)
    lower = {name.lower(): value for name, value in headers.items()}
    webhook_id, timestamp, signatures = (lower.get(f"webhook-{name}", "") for name in _HEADERS)
    present = time.time() if now is None else now
    if not _TIMESTAMP(timestamp) or abs(present - int(timestamp)) > tolerance:
        raise WebhookVerificationError("webhook-timestamp is not of now")
    digest = hmac.digest(key, f"{webhook_id}.{timestamp}.".encode() + body, sha256)
    expected = b"v1," + base64.b64encode(digest)
    # There are several while a secret is being changed.
    given = signatures.encode().split(b" ")
    if not webhook_id or not any(hmac.compare_digest(signature, expected) for signature in given):
        raise WebhookVerificationError("webhook-signature has none that this secret makes")
    return json_format.Parse(body, event_pb2.Event(), ignore_unknown_fields=True)  # of a later mesh


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        key = b""
    if not key or not secret.startswith("whsec_"):
        raise ValueError("an endpoint's secret is whsec_ and base64")
    return key


_HEADERS = ("id", "timestamp", "signature")
_TIMESTAMP = re.compile(r"[0-9]{1,15}").fullmatch
