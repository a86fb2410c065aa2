"""Prepares requests: checks them, and adds request ids and the metadata that every call needs."""

from __future__ import annotations

import math
import re
import sys
import uuid
from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message

from mesh_client.errors import InvalidArgument
from mesh_client.methods import Method

DEFAULT_TIMEOUT = 30.0
"""Seconds that a unary call may take, retries included, when no timeout is given. Streams have none."""

Metadata = Iterable[tuple[str, str | bytes]]


def prepared(method: Method, request: Message) -> Any:
    """`request` itself, or a copy with a new request id where the method needs one.

    What a request says is checked by the mesh. Raises `TypeError` for another method's request.
    """
    if not isinstance(request, method.request):
        raise TypeError(f"{method.name} takes {method.request.__name__}, not {type(request).__name__}")
    given: Any = request
    if not method.request_id or given.request_id:
        return request
    # A copy, because sending the same object again is a second request.
    copied: Any = method.request()
    copied.CopyFrom(request)
    copied.request_id = new_request_id()
    return copied


def checked_timeout(timeout: float | None) -> float | None:
    """The timeout in seconds, or None. Raises `InvalidArgument`."""
    if timeout is not None and not (math.isfinite(timeout) and timeout > 0):
        raise InvalidArgument.of("timeout", "must be a positive number of seconds")
    return timeout


def new_request_id() -> str:
    """A random request id."""
    return uuid.uuid4().hex


def call_metadata(api_key: str, request: object, more: Metadata | None) -> list[tuple[str, str | bytes]]:
    """Credentials, the account where the request names one, the current trace, and `more`."""
    metadata: list[tuple[str, str | bytes]] = [("authorization", f"Bearer {api_key}")]
    account_id = getattr(request, "account_id", "")
    if account_id:
        if not _ID(account_id):  # it cannot be sent in a header
            raise InvalidArgument.of("account_id", "must be an id like acc_01ARZ3NDEKTSV4RRFFQ69G5FAV")
        metadata.append(("x-account-id", account_id))
    given = list(more or ())
    for key, _ in given:
        if not _KEY(key):
            raise InvalidArgument.of("metadata", f"{key!r} must be of a-z, 0-9, '-', '_' and '.'")
    if not any(key == "traceparent" for key, _ in given):
        traceparent = current_traceparent()
        if traceparent:
            metadata.append(("traceparent", traceparent))
    return metadata + given


def current_traceparent() -> str:
    """W3C trace context of the current OpenTelemetry span; "" where there is none, or no OpenTelemetry."""
    trace: Any = sys.modules.get("opentelemetry.trace")  # set if the application uses OpenTelemetry
    if trace is None:
        return ""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


_ID = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_KEY = re.compile(r"[a-z0-9_.-]+").fullmatch
