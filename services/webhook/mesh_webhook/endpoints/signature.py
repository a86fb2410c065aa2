"""Signatures as Standard Webhooks 1.0.0 defines them: HMAC-SHA256 over `id.timestamp.body`.

A receiver takes a request whose `webhook-timestamp` is recent, and whose `webhook-signature` has a part `v1,`
with the base64 of that HMAC under its key. There are two parts while a secret is being rotated.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
from collections.abc import Iterable
from hashlib import sha256

from mesh_core.errors import InvalidField

PREFIX = "whsec_"
MIN_KEY_BYTES = 24
MAX_KEY_BYTES = 64


def new_secret() -> str:
    """A new secret with a key of 32 random bytes."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def secret_key(secret: str, field: str = "secret") -> bytes:
    """The key in a secret; raises `InvalidField` unless it is `whsec_` and 24 to 64 bytes in base64."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise InvalidField(field, f"must be {PREFIX} and {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes in base64")
    return key


def sign(keys: Iterable[bytes], webhook_id: str, timestamp: int, body: bytes) -> str:
    """The value of the header `webhook-signature`: one `v1` signature for each key."""
    content = b"%b.%d.%b" % (webhook_id.encode(), timestamp, body)
    return " ".join(f"v1,{base64.b64encode(hmac.digest(key, content, sha256)).decode()}" for key in keys)
