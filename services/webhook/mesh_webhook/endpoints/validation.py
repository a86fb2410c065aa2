"""Checks the fields of an endpoint that callers set, and turns them into columns."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import orjson

from mesh_core import validation
from mesh_core.egress import AddressForbidden, CheckedResolver, literal_address
from mesh_core.errors import FailedPrecondition, InvalidField
from mesh_webhook.events import filters
from sessionmesh.v1 import webhook_pb2

FIELDS = (
    "url",
    "display_name",
    "event_types",
    "account_ids",
    "labels",
    "headers",
    "state",
    "rate_per_second",
)
"""The fields that UpdateEndpoint can change."""

MAX_HEADERS = 16
MAX_URL_LENGTH = 2048
MAX_HEADER_LENGTH = 1024
MAX_RATE = 100_000


class EndpointValidator:
    """Checks endpoints, with the rule for addresses that deliveries are held to, too. `allow_http` is for
    development.
    """

    def __init__(self, resolver: CheckedResolver, *, allow_http: bool) -> None:
        self._resolver = resolver
        self._allow_http = allow_http

    async def columns(self, endpoint: webhook_pb2.Endpoint, paths: frozenset[str]) -> dict[str, object]:
        """The values of the columns that `paths` names; `headers` are not sealed yet.

        Raises `InvalidField`, or `FailedPrecondition` ADDRESS_FORBIDDEN.
        """
        checked = {path: _CHECKS[path](endpoint) for path in FIELDS if path in paths and path != "url"}
        if "url" in paths:
            checked["url"] = await self._url(endpoint.url)
        return checked

    async def _url(self, url: str) -> str:
        field = "endpoint.url"
        validation.required_text(field, url, MAX_URL_LENGTH)
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise InvalidField(field, f"is not a URL: {error}") from None
        if not url.isascii() or not url.isprintable() or " " in url:
            raise InvalidField(field, "must be printable ASCII: encode other characters")
        if parts.scheme not in ("https", "http") or not host:
            raise InvalidField(field, "must be https://...")
        if literal_address(host) is None and not _is_host_name(host):
            raise InvalidField(field, "must have a host name of letters, digits and hyphens between dots")
        if parts.scheme == "http" and not self._allow_http:
            raise InvalidField(field, "must be https://...: plain http is not allowed here")
        if parts.username is not None or parts.password is not None:
            raise InvalidField(field, "must not have a user or password: put them into a header")
        if parts.fragment:
            raise InvalidField(field, "must not have a #fragment")
        try:
            self._resolver.check_literal(host)
            async with asyncio.timeout(_RESOLVE_SECONDS):
                await self._resolver.resolve(host, parts.port or 443)
        except AddressForbidden as error:
            raise FailedPrecondition(f"{field}: {error}", "ADDRESS_FORBIDDEN") from None
        except (OSError, TimeoutError):
            pass  # the name may be created after the endpoint; if not, the attempts fail
        return url


def _is_host_name(host: str) -> bool:
    """Whether a name server could know it: labels of 1 to 63, 253 characters in all; underscores occur."""
    name = host.removesuffix(".")
    return len(name) <= _MAX_HOST and all(_is_label(label) for label in name.split("."))


def _headers(endpoint: webhook_pb2.Endpoint) -> dict[str, str]:
    field = "endpoint.headers"
    headers: Mapping[str, str] = endpoint.headers
    if len(headers) > MAX_HEADERS:
        raise InvalidField(field, f"must have at most {MAX_HEADERS} entries")
    if len({name.lower() for name in headers}) < len(headers):
        raise InvalidField(field, "must not name a header twice: case does not matter")
    for name, value in headers.items():
        if not _is_token(name) or len(name) > validation.MAX_NAME:
            raise InvalidField(field, f"{name[:64]!r} is no name of a header")
        if name.lower() in _RESERVED_HEADERS or name.lower().startswith(("webhook-", "proxy-")):
            raise InvalidField(field, f"{name} is set by the mesh or by HTTP itself")
        if len(value) > MAX_HEADER_LENGTH or not _is_header_value(value):
            raise InvalidField(
                f"{field}[{name}]", f"must be at most {MAX_HEADER_LENGTH} printable ASCII characters"
            )
    return dict(headers)


def _labels(endpoint: webhook_pb2.Endpoint) -> str:
    return orjson.dumps(validation.labels("endpoint.labels", endpoint.labels)).decode()


def _state(endpoint: webhook_pb2.Endpoint) -> int:
    state = endpoint.state or webhook_pb2.ENDPOINT_STATE_ACTIVE
    allowed = (webhook_pb2.ENDPOINT_STATE_ACTIVE, webhook_pb2.ENDPOINT_STATE_PAUSED)
    return validation.choice("endpoint.state", state, allowed, "ACTIVE, PAUSED")


def _rate(endpoint: webhook_pb2.Endpoint) -> int | None:
    if not endpoint.HasField("rate_per_second"):
        return None
    if not 1 <= endpoint.rate_per_second <= MAX_RATE:
        raise InvalidField("endpoint.rate_per_second", f"must be between 1 and {MAX_RATE}; absent: no limit")
    return endpoint.rate_per_second


_RESOLVE_SECONDS = 3.0
_CHECKS: dict[str, Callable[[webhook_pb2.Endpoint], object]] = {
    "display_name": lambda endpoint: validation.visible_text("endpoint.display_name", endpoint.display_name),
    "event_types": lambda endpoint: filters.check_event_types("endpoint.event_types", endpoint.event_types),
    "account_ids": lambda endpoint: filters.check_accounts("endpoint.account_ids", endpoint.account_ids),
    "labels": _labels,
    "headers": _headers,
    "state": _state,
    "rate_per_second": _rate,
}
_MAX_HOST = 253
_is_label = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?").fullmatch
_is_token = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_is_header_value = re.compile(r"[\t\x20-\x7e]*").fullmatch
_RESERVED_HEADERS = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "traceparent",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
