"""Checks the fields of an endpoint that callers set, and turns them into columns."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from mesh_core import validation
from mesh_core.egress import CheckedResolver, check_headers, check_url
from mesh_core.errors import InvalidField
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
        return await check_url("endpoint.url", url, self._resolver, allow_http=self._allow_http)


def _headers(endpoint: webhook_pb2.Endpoint) -> dict[str, str]:
    headers = check_headers("endpoint.headers", endpoint.headers)
    for name in headers:
        if name.lower().startswith("webhook-"):
            raise InvalidField("endpoint.headers", f"{name} is set by the mesh or by HTTP itself")
    return headers


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


_CHECKS: dict[str, Callable[[webhook_pb2.Endpoint], object]] = {
    "display_name": lambda endpoint: validation.visible_text("endpoint.display_name", endpoint.display_name),
    "event_types": lambda endpoint: filters.check_event_types("endpoint.event_types", endpoint.event_types),
    "account_ids": lambda endpoint: filters.check_accounts("endpoint.account_ids", endpoint.account_ids),
    "labels": _labels,
    "headers": _headers,
    "state": _state,
    "rate_per_second": _rate,
}
