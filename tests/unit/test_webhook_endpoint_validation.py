"""What may be said of an endpoint."""

from __future__ import annotations

from typing import Any

import pytest

from mesh_core.errors import FailedPrecondition, InvalidField
from mesh_webhook.endpoints.validation import FIELDS, EndpointValidator
from sessionmesh.v1 import webhook_pb2
from tests.support.memory_names import resolver

PUBLIC = "93.184.215.14"
STRICT = EndpointValidator(resolver(PUBLIC), allow_http=False)
OPEN = EndpointValidator(resolver(PUBLIC, allow_private=True), allow_http=True)


def endpoint(**fields: Any) -> webhook_pb2.Endpoint:
    return webhook_pb2.Endpoint(**({"url": "https://[2606:4700:4700::1111]/hook"} | fields))


async def test_good_fields_become_columns() -> None:
    columns = await STRICT.columns(
        endpoint(headers={"X-A": "b"}, labels={"l": "1"}, event_types=["message.*"]), frozenset(FIELDS)
    )
    assert columns == {
        "url": "https://[2606:4700:4700::1111]/hook",
        "display_name": "",
        "event_types": ["message.*"],
        "account_ids": [],
        "labels": '{"l":"1"}',
        "headers": {"X-A": "b"},
        "state": webhook_pb2.ENDPOINT_STATE_ACTIVE,
        "rate_per_second": None,
    }


async def test_only_the_fields_of_the_mask_are_looked_at() -> None:
    columns = await STRICT.columns(webhook_pb2.Endpoint(display_name="x"), frozenset({"display_name"}))
    assert columns == {"display_name": "x"}


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"url": ""}, "endpoint.url"),
        ({"url": "example.org/hook"}, "endpoint.url"),
        ({"url": "ftp://example.org"}, "endpoint.url"),
        ({"url": "http://example.org"}, "endpoint.url"),
        ({"url": "https://"}, "endpoint.url"),
        ({"url": "https://a..b/"}, "endpoint.url"),
        ({"url": "https://.a/"}, "endpoint.url"),
        ({"url": "https://a../"}, "endpoint.url"),
        ({"url": f"https://{'a' * 64}.org/"}, "endpoint.url"),
        ({"url": f"https://{'.'.join(['a' * 63] * 4)}.org/"}, "endpoint.url"),
        ({"url": "https://-a.org/"}, "endpoint.url"),
        ({"url": "https://a%2e.org/"}, "endpoint.url"),
        ({"url": "https://a\\b.org/"}, "endpoint.url"),
        ({"event_types": ["message.recieved"]}, "endpoint.event_types"),
        ({"event_types": ["messages.*"]}, "endpoint.event_types"),
        ({"url": "https://user:pw@example.org/"}, "endpoint.url"),
        ({"url": "https://example.org/#part"}, "endpoint.url"),
        ({"url": "https://example.org:99999/"}, "endpoint.url"),
        ({"url": "https://[::1/"}, "endpoint.url"),
        ({"url": "https://example.org/a b"}, "endpoint.url"),
        ({"url": "https://example.org/\r\nx: y"}, "endpoint.url"),
        ({"url": "https://example.org/" + "a" * 2048}, "endpoint.url"),
        ({"display_name": "a" * 129}, "endpoint.display_name"),
        ({"event_types": ["Nope"]}, "endpoint.event_types"),
        ({"account_ids": ["acc_1"]}, "endpoint.account_ids"),
        ({"labels": {"": "x"}}, "endpoint.labels"),
        ({"headers": {f"x-{number}": "" for number in range(17)}}, "endpoint.headers"),
        ({"headers": {"a b": "x"}}, "endpoint.headers"),
        ({"headers": {"Host": "x"}}, "endpoint.headers"),
        ({"headers": {"Webhook-Id": "x"}}, "endpoint.headers"),
        ({"headers": {"content-type": "x"}}, "endpoint.headers"),
        ({"headers": {"x-a": "1", "X-A": "2"}}, "endpoint.headers"),
        ({"headers": {"x-a": "1\r\nx-b: 2"}}, "endpoint.headers[x-a]"),
        ({"state": webhook_pb2.ENDPOINT_STATE_DISABLED}, "endpoint.state"),
        ({"state": 77}, "endpoint.state"),
        ({"rate_per_second": 0}, "endpoint.rate_per_second"),
        ({"rate_per_second": -1}, "endpoint.rate_per_second"),
        ({"rate_per_second": 100_001}, "endpoint.rate_per_second"),
    ],
)
async def test_bad_input_names_its_field(fields: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidField) as caught:
        await STRICT.columns(endpoint(**fields), frozenset(FIELDS))
    assert caught.value.field == path


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://[::1]:8443/",
        "https://localhost/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://0/",
        "https://2130706433/",
    ],
)
async def test_private_addresses_are_refused(url: str) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        await STRICT.columns(endpoint(url=url), frozenset({"url"}))
    assert caught.value.reason == "ADDRESS_FORBIDDEN"


async def test_settings_may_allow_http_and_private_addresses() -> None:
    assert await OPEN.columns(endpoint(url="http://127.0.0.1:8080/x"), frozenset({"url"}))
