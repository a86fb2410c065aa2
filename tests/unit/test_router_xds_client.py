"""What an xDS client is sent, request by request."""

from __future__ import annotations

import gc
import weakref
from unittest.mock import ANY

import pytest
from google.rpc import status_pb2

from mesh_core.errors import InvalidField, ResourceExhausted
from mesh_router.xds.client import MAX_NAME_LENGTH, MAX_NAMES, MAX_UNKNOWN_BYTES, Client
from mesh_router.xds.resources import (
    CLUSTER_TYPE,
    ENDPOINT_TYPE,
    LISTENER_TYPE,
    Backends,
    build,
)
from mesh_router.xds.snapshot import Snapshot, Subscription
from mesh_wire.xds import core_pb2
from mesh_wire.xds.cluster_pb2 import Cluster
from mesh_wire.xds.discovery_pb2 import DiscoveryRequest, DiscoveryResponse
from mesh_wire.xds.endpoint_pb2 import ClusterLoadAssignment

ROUTERS = ("10.0.0.1:7600",)
NODES = {"a": ("10.0.1.1:7601",), "b": ("10.0.1.2:7601",)}
FIRST = Snapshot(build(Backends(ROUTERS, NODES), None))
MOVED = Snapshot(build(Backends(ROUTERS, {**NODES, "a": ("10.0.1.9:7601",)}), None), FIRST)
WITHOUT_A = Snapshot(build(Backends(ROUTERS, {"b": NODES["b"]}), None), FIRST)


class Conversation:
    """A client that asks for resources of one type, as gRPC clients do."""

    def __init__(self, type_url: str, snapshot: Snapshot = FIRST) -> None:
        self.client = Client()
        self.snapshot = snapshot
        self.type_url = type_url
        self.version = self.nonce = ""
        self.names: tuple[str, ...] = ()

    def ask(self, *names: str, nonce: str | None = None, error: str = "") -> list[DiscoveryResponse]:
        self.names = names
        request = DiscoveryRequest(
            type_url=self.type_url,
            resource_names=names,
            version_info=self.version,
            response_nonce=self.nonce if nonce is None else nonce,
        )
        if self.client.node is None:
            request.node.id = "client-1"
        if error:
            request.error_detail.CopyFrom(status_pb2.Status(code=3, message=error))
        self.client.take(request, self.snapshot)
        return self.due()

    def due(self) -> list[DiscoveryResponse]:
        """All that is sent now."""
        responses = []
        while (response := self.client.due(self.snapshot)) is not None:
            responses.append(DiscoveryResponse.FromString(response.payload))
        if responses:
            self.nonce = responses[-1].nonce
        return responses

    def acknowledge(self, response: DiscoveryResponse) -> None:
        self.version, self.nonce = response.version_info, response.nonce
        assert self.ask(*self.names) == []

    def change(self, snapshot: Snapshot) -> list[DiscoveryResponse]:
        self.snapshot = snapshot
        return self.due() if self.client.is_due(snapshot) else []


def names(response: DiscoveryResponse) -> list[str]:
    kind = {CLUSTER_TYPE: Cluster, ENDPOINT_TYPE: ClusterLoadAssignment}[response.type_url]
    found = []
    for packed in response.resources:
        resource = kind()
        assert packed.Unpack(resource)
        found.append(resource.name if isinstance(resource, Cluster) else resource.cluster_name)
    return found


def test_a_subscription_is_answered_at_once_and_an_acknowledgement_not_at_all() -> None:
    talk = Conversation(CLUSTER_TYPE)
    (response,) = talk.ask("router", "node:a")
    assert names(response) == ["node:a", "router"]
    talk.acknowledge(response)
    assert talk.change(FIRST) == []


def test_of_clusters_all_that_are_subscribed_to_are_sent_when_one_is_added() -> None:
    talk = Conversation(CLUSTER_TYPE)
    talk.ask("router")
    (response,) = talk.ask("router", "node:a")
    assert names(response) == ["node:a", "router"]


def test_of_endpoints_only_those_added_are_sent() -> None:
    talk = Conversation(ENDPOINT_TYPE)
    talk.ask("router")
    (response,) = talk.ask("router", "node:a")
    assert names(response) == ["node:a"]


def test_of_endpoints_only_those_that_changed_are_sent() -> None:
    talk = Conversation(ENDPOINT_TYPE)
    talk.ask("router", "node:a", "node:b")
    (response,) = talk.change(MOVED)
    assert names(response) == ["node:a"]


def test_a_change_of_what_a_client_has_not_subscribed_to_is_none_of_its_business() -> None:
    talk = Conversation(ENDPOINT_TYPE)
    talk.ask("router", "node:b")
    assert talk.change(MOVED) == []
    clusters = Conversation(CLUSTER_TYPE)
    clusters.ask("router", "node:b")
    assert clusters.change(WITHOUT_A) == []


def test_a_cluster_that_is_gone_is_missing_in_what_is_sent() -> None:
    talk = Conversation(CLUSTER_TYPE)
    talk.ask("router", "node:a")
    (response,) = talk.change(WITHOUT_A)
    assert names(response) == ["router"]


def test_a_cluster_that_does_not_exist_yet_is_sent_when_it_does() -> None:
    talk = Conversation(CLUSTER_TYPE, WITHOUT_A)
    (response,) = talk.ask("router", "node:a")
    assert names(response) == ["router"]
    (response,) = talk.change(Snapshot(build(Backends(ROUTERS, NODES), None), WITHOUT_A))
    assert names(response) == ["node:a", "router"]


def test_endpoints_that_do_not_exist_yet_are_sent_when_they_do() -> None:
    talk = Conversation(ENDPOINT_TYPE, WITHOUT_A)
    assert talk.ask("node:a") == []
    (response,) = talk.change(Snapshot(build(Backends(ROUTERS, NODES), None), WITHOUT_A))
    assert names(response) == ["node:a"]


def test_endpoints_subscribed_to_again_are_sent_again() -> None:
    talk = Conversation(ENDPOINT_TYPE)
    talk.ask("node:a", "node:b")
    assert talk.ask("node:b") == []
    (response,) = talk.ask("node:a", "node:b")
    assert names(response) == ["node:a"]


def test_unsubscribing_from_a_cluster_is_not_answered() -> None:
    talk = Conversation(CLUSTER_TYPE)
    talk.ask("router", "node:a")
    assert talk.ask("router") == []
    assert talk.change(WITHOUT_A) == []


def test_a_request_with_the_nonce_of_an_older_response_is_ignored() -> None:
    talk = Conversation(CLUSTER_TYPE)
    (old,) = talk.ask("router")
    talk.ask("router", "node:a")
    assert talk.ask("router", "node:b", nonce=old.nonce) == []
    assert talk.client.watches[CLUSTER_TYPE].subscription.names == frozenset({"router", "node:a"})


def test_a_request_sent_before_the_first_response_arrived_counts() -> None:
    talk = Conversation(CLUSTER_TYPE)
    talk.ask("router")
    (response,) = talk.ask("router", "node:a", nonce="")
    assert names(response) == ["node:a", "router"]


def test_a_refusal_is_kept_and_not_answered_until_something_changes() -> None:
    talk = Conversation(CLUSTER_TYPE)
    (first,) = talk.ask("router", "node:a")
    talk.acknowledge(first)
    (second,) = talk.change(WITHOUT_A)
    assert talk.ask("router", "node:a", error="no good") == []
    assert talk.change(WITHOUT_A) == []
    watch = talk.client.watches[CLUSTER_TYPE]
    assert watch.refusal is not None
    assert (watch.refusal.reason, watch.refusal.version) == ("no good", second.version_info)
    assert watch.acknowledged == first.version_info
    (third,) = talk.change(Snapshot(build(Backends(ROUTERS, NODES), None), WITHOUT_A))
    talk.acknowledge(third)
    assert watch.refusal is None
    assert watch.acknowledged == third.version_info


def test_subscribing_to_something_else_after_a_refusal_acknowledges_nothing() -> None:
    talk = Conversation(ENDPOINT_TYPE)
    talk.ask("router", "node:a")
    talk.ask("router", "node:a", error="no good")
    talk.ask("router")
    refusal = talk.client.watches[ENDPOINT_TYPE].refusal
    assert refusal is not None
    assert refusal.reason == "no good"


def test_a_client_that_names_nothing_gets_everything_of_clusters_and_listeners() -> None:
    (response,) = Conversation(CLUSTER_TYPE).ask()
    assert names(response) == ["media", "node:a", "node:b", "router", "simulator", "webhook"]
    (response,) = Conversation(LISTENER_TYPE).ask("*")
    assert len(response.resources) == 2
    assert Conversation(ENDPOINT_TYPE).ask() == []


def test_a_client_that_named_something_before_and_nothing_now_wants_nothing() -> None:
    talk = Conversation(CLUSTER_TYPE)
    talk.ask("node:a")
    assert talk.ask() == []
    assert talk.change(WITHOUT_A) == []


def test_types_are_sent_in_an_order_in_which_what_is_referred_to_comes_first() -> None:
    client = Client()
    for type_url, name in (
        (ENDPOINT_TYPE, "router"),
        (LISTENER_TYPE, "sessionmesh"),
        (CLUSTER_TYPE, "router"),
    ):
        request = DiscoveryRequest(type_url=type_url, resource_names=[name], node=core_pb2.Node(id="x"))
        client.take(request, FIRST)
    sent = []
    while (response := client.due(FIRST)) is not None:
        sent.append(DiscoveryResponse.FromString(response.payload).type_url)
    assert sent == [CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE]


def test_clients_with_the_same_subscription_share_one_response() -> None:
    talks = [Conversation(CLUSTER_TYPE) for _ in range(2)]
    request = DiscoveryRequest(type_url=CLUSTER_TYPE, resource_names=["router"], node=core_pb2.Node(id="x"))
    for talk in talks:
        talk.client.take(request, FIRST)
    first, second = (talk.client.due(FIRST) for talk in talks)
    assert first is second


def unknown(number: int) -> list[str]:
    return [f"node:{'x' * 63}-{index}" for index in range(number)]


SOME_UNKNOWN = 300  # more than half of what a client may ask for
MANY = {f"n{index}": (f"10.0.2.{index % 250}:7601",) for index in range(MAX_NAMES - 1)}


def test_names_that_do_not_exist_are_bounded_over_all_types() -> None:
    talk = Conversation(ENDPOINT_TYPE)
    talk.ask(*unknown(SOME_UNKNOWN))
    talk.type_url = CLUSTER_TYPE
    with pytest.raises(ResourceExhausted) as refused:
        talk.ask(*unknown(SOME_UNKNOWN))
    assert refused.value.reason == "QUOTA_EXCEEDED"


def test_names_that_are_asked_for_no_more_do_not_count() -> None:
    talk = Conversation(ENDPOINT_TYPE)
    for number in range(10):
        assert talk.ask("router", *unknown(SOME_UNKNOWN + number)) == ([] if number else [ANY])


def test_names_that_exist_do_not_count() -> None:
    snapshot = Snapshot(build(Backends(ROUTERS, MANY), None))
    (response,) = Conversation(ENDPOINT_TYPE, snapshot).ask(*(f"node:{name}" for name in MANY))
    assert len(names(response)) == len(MANY)
    assert sum(map(len, names(response))) + 100 * len(MANY) > MAX_UNKNOWN_BYTES


def test_before_there_is_anything_nothing_exists() -> None:
    client = Client()
    request = DiscoveryRequest(
        type_url=ENDPOINT_TYPE, resource_names=unknown(4 * SOME_UNKNOWN), node=core_pb2.Node()
    )
    with pytest.raises(ResourceExhausted):
        client.take(request, None)


def test_nothing_is_kept_of_what_a_client_asked_for_that_has_left() -> None:
    talk = Conversation(CLUSTER_TYPE)
    talk.ask("router", *unknown(SOME_UNKNOWN))
    subscription = weakref.ref(talk.client.watches[CLUSTER_TYPE].subscription)
    del talk
    gc.collect()
    assert subscription() is None


def test_the_responses_that_are_kept_are_bounded_by_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh_router.xds.snapshot.MAX_CACHED_BYTES", 1)
    snapshot = Snapshot(build(Backends(ROUTERS, NODES), None))
    first = Subscription.of(CLUSTER_TYPE, frozenset({"router"}))
    second = Subscription.of(CLUSTER_TYPE, frozenset({"node:a"}))
    response = snapshot.response(first, snapshot.names(first))
    assert snapshot.response(first, snapshot.names(first)) is response
    snapshot.response(second, snapshot.names(second))
    assert snapshot.response(first, snapshot.names(first)) is not response


def test_versions_depend_on_content_alone() -> None:
    (first,) = Conversation(CLUSTER_TYPE, FIRST).ask("router")
    again = Snapshot(build(Backends(ROUTERS, NODES), None), MOVED)
    (second,) = Conversation(CLUSTER_TYPE, again).ask("router")
    assert first.version_info == second.version_info
    (other,) = Conversation(ENDPOINT_TYPE, FIRST).ask("node:a")
    (moved,) = Conversation(ENDPOINT_TYPE, MOVED).ask("node:a")
    assert other.version_info != moved.version_info


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (DiscoveryRequest(type_url="type.googleapis.com/x.Y", node=core_pb2.Node()), "type_url"),
        (DiscoveryRequest(node=core_pb2.Node()), "type_url"),
        (DiscoveryRequest(type_url=CLUSTER_TYPE), "node"),
        (
            DiscoveryRequest(
                type_url=CLUSTER_TYPE,
                node=core_pb2.Node(),
                resource_names=[str(n) for n in range(MAX_NAMES + 1)],
            ),
            "resource_names",
        ),
        (
            DiscoveryRequest(
                type_url=CLUSTER_TYPE, node=core_pb2.Node(), resource_names=["x" * (MAX_NAME_LENGTH + 1)]
            ),
            "resource_names",
        ),
    ],
)
def test_a_request_that_nobody_may_send_is_refused(request_: DiscoveryRequest, field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        Client().take(request_, FIRST)
    assert refused.value.field == field


def test_a_client_without_a_name_is_served() -> None:
    client = Client()
    request = DiscoveryRequest(type_url=CLUSTER_TYPE, resource_names=["router"], node=core_pb2.Node())
    client.take(request, FIRST)
    assert client.due(FIRST) is not None
    client.take(DiscoveryRequest(type_url=ENDPOINT_TYPE, resource_names=["router"]), FIRST)
    assert client.due(FIRST) is not None
