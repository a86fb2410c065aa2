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
MAX_REQUEST_BYTES = 8 * 1024 * 1024
MAX_REQUEST_ID = 64

Metadata = Iterable[tuple[str, str | bytes]]


def prepared(method: Method, request: Message) -> Any:
    """`request` itself, or a copy with a new request id where the method needs one.

    Raises `InvalidArgument` for what the mesh would refuse anyway, `TypeError` for another method's request.
    """
    if not isinstance(request, method.request):
        raise TypeError(f"{method.name} takes {method.request.__name__}, not {type(request).__name__}")
    if method.by_account:
        check_account_id(getattr(request, "account_id"))  # noqa: B009 - the field is not in Message's type
    if "request_id" not in method.request.DESCRIPTOR.fields_by_name:
        return request
    given: str = getattr(request, "request_id")  # noqa: B009 - as above
    if given:
        check_request_id(given)
        return request
    # A copy, because sending the same object again is a second request.
    copied: Any = method.request()
    copied.CopyFrom(request)
    copied.request_id = new_request_id()
    return copied


def check_account_id(value: str, field: str = "account_id") -> None:
    """Raises `InvalidArgument` for an account id that is missing, or cannot be sent in a header."""
    if not value:
        raise InvalidArgument.of(field, "is required")
    if not _ID(value):
        raise InvalidArgument.of(field, "must be an id like acc_01ARZ3NDEKTSV4RRFFQ69G5FAV")


def check_request_id(value: str) -> None:
    """Raises `InvalidArgument` for a request id that is too long."""
    if len(value) > MAX_REQUEST_ID:
        raise InvalidArgument.of("request_id", f"must be at most {MAX_REQUEST_ID} characters long")


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
