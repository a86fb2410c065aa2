"""Limits of single requests: each is asked with what is just allowed, and with one more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.api_methods import named
from tests.support.fuzz.valid import message
from tests.support.fuzz.world import Fields, World, new_phone, new_request, unique

Build = Callable[[World, int], Fields]
REASONS = {"INVALID_FIELD", "QUOTA_EXCEEDED", "RATE_LIMITED", "TOO_MANY_SECRETS", "OUTBOX_FULL"}


@dataclass(frozen=True, slots=True)
class Edge:
    """A limit of a field: `build` makes a request that has so much of it."""

    name: str
    method: str
    most: int
    build: Build

    async def refuses(self, world: World) -> bool:
        """Whether one more is refused with a typed reason, and no more is not."""
        method = named(self.method)
        caller = world.caller(method)
        requests = [new_request(method, self.build(world, size)) for size in (self.most, self.most + 1)]
        below, above = [await caller(method, [request.SerializeToString()]) for request in requests]
        return below.ok and above.reason in REASONS


def sent(**content: Callable[[int], Any]) -> Build:
    """A message whose content has so much of something."""
    return lambda world, size: message(world, {kind: make(size) for kind, make in content.items()})


def account(make: Callable[[int], Fields]) -> Build:
    return lambda _world, size: {"account": {"phone": new_phone()} | make(size)}


def endpoint(make: Callable[[int], Fields]) -> Build:
    return lambda world, size: {"endpoint": {"url": world.live["url"]} | make(size)}


def page(**more: str) -> Build:
    return lambda world, size: {"page_size": size} | {field: world.live[name] for field, name in more.items()}


def with_message(make: Callable[[int], Fields]) -> Build:
    return lambda world, size: message(world) | make(size)


def _text(size: int) -> str:
    return "x" * size


def _numbered(size: int) -> dict[str, str]:
    return {f"k{number}": "v" for number in range(size)}


def _poll(answers: int, question: int = 1) -> Fields:
    return {"question": _text(question), "answers": [f"a{number}" for number in range(answers)]}


def _batch(world: World, size: int) -> Fields:
    return {"messages": [message(world) | {"request_id": unique()} for _ in range(size)]}


EDGES = (
    Edge("characters of a text", "SendMessage", 65_536, sent(text=lambda n: {"body": _text(n)})),
    Edge("answers of a poll", "SendMessage", 12, sent(poll=_poll)),
    Edge("characters of a question", "SendMessage", 255, sent(poll=lambda n: _poll(2, n))),
    Edge("labels of a message", "SendMessage", 16, with_message(lambda n: {"labels": _numbered(n)})),
    Edge("mentions", "SendMessage", 256, with_message(
        lambda n: {"options": {"mentions": ["+4915100000001"] * n}})),
    Edge("external_id of a message", "SendMessage", 128, with_message(lambda n: {"external_id": _text(n)})),
    Edge("request_id", "SendMessage", 64, with_message(lambda n: {"request_id": unique("r" * (n - 17))})),
    Edge("seconds to disappear", "SendMessage", 90 * 86_400, with_message(
        lambda n: {"options": {"disappear_after": {"seconds": n}}})),
    Edge("messages of a batch", "BatchSendMessages", 1000, _batch),
    Edge("page of messages", "ListMessages", 1000, page(account_id="account_id")),
    Edge("page of accounts", "ListAccounts", 1000, page()),
    Edge("page of sessions", "ListSessions", 1000, page()),
    Edge("page of events", "ListEvents", 1000, page()),
    Edge("page of deliveries", "ListDeliveries", 1000, page()),
    Edge("page of attempts", "ListAttempts", 1000, page(delivery_id="delivery_id")),
    Edge("page of files", "ListMedia", 1000, page()),
    Edge("page of keys", "ListApiKeys", 1000, page()),
    Edge("display_name of an account", "CreateAccount", 128, account(lambda n: {"display_name": _text(n)})),
    Edge("external_id of an account", "CreateAccount", 128, account(
        lambda n: {"external_id": unique("e" * (n - 17))})),
    Edge("labels of an account", "CreateAccount", 32, account(lambda n: {"labels": _numbered(n)})),
    Edge("key of a label", "CreateAccount", 63, account(lambda n: {"labels": {_text(n): "v"}})),
    Edge("value of a label", "CreateAccount", 255, account(lambda n: {"labels": {"k": _text(n)}})),
    Edge("messages a minute", "CreateAccount", 100_000, account(
        lambda n: {"send_limits": {"per_minute": n}})),
    Edge("messages an hour", "CreateAccount", 1_000_000, account(lambda n: {"send_limits": {"per_hour": n}})),
    Edge("messages a day", "CreateAccount", 10_000_000, account(lambda n: {"send_limits": {"per_day": n}})),
    Edge("messages that wait", "CreateAccount", 100_000, account(lambda n: {"send_limits": {"outbox": n}})),
    Edge("labels of an endpoint", "CreateEndpoint", 32, endpoint(lambda n: {"labels": _numbered(n)})),
    Edge("headers of an endpoint", "CreateEndpoint", 16, endpoint(lambda n: {"headers": _numbered(n)})),
    Edge("deliveries a second", "CreateEndpoint", 100_000, endpoint(lambda n: {"rate_per_second": n})),
    Edge("seconds of statistics", "GetEndpointStats", 7 * 86_400, lambda world, n: {
        "endpoint_id": world.live["endpoint_id"], "window": {"seconds": n}}),
    Edge("seconds of an overlap", "RotateSecret", 7 * 86_400, lambda world, n: {
        "endpoint_id": world.live["endpoint_id"], "overlap": {"seconds": n}}),
)  # fmt: skip
