"""The resources that the xDS control plane builds."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pool

from mesh_router.proxy import routes as routing
from mesh_router.proxy.routes import Destination, routes
from mesh_router.xds import resources
from mesh_router.xds.resources import Backends, ClusterTls, Packed, build
from mesh_wire.lookup.rls_config_pb2 import RouteLookupClusterSpecifier
from mesh_wire.xds import (
    cluster_pb2,
    core_pb2,
    endpoint_pb2,
    http_connection_manager_pb2,
    listener_pb2,
    route_pb2,
    tls_pb2,
)

BACKENDS = Backends(
    routers=("10.0.0.1:7600", "10.0.0.2:7600"),
    nodes={"node-1": ("10.0.1.1:7601",)},
    instances={"media": ("10.0.2.1:7602", "[2001:db8::1]:7602")},
)
SERVICES = sorted(routing.SERVICES)
METHODS = [
    f"/{service}/{method.name}"
    for service in SERVICES
    for method in descriptor_pool.Default().FindServiceByName(service).methods
]
FORWARDED = {route.path: route.destination for route in routes()}


def unpacked(packed: Packed, type_url: str, name: str, message: Any) -> Any:
    assert packed[type_url][name].Unpack(message)
    return message


def route_table(name: str) -> route_pb2.RouteConfiguration:
    built = build(BACKENDS, None)
    table: route_pb2.RouteConfiguration = unpacked(
        built, resources.ROUTE_TYPE, name, route_pb2.RouteConfiguration()
    )
    return table


def destination(table: route_pb2.RouteConfiguration, path: str) -> str:
    """Where a client sends a call: the first route that matches."""
    for route in table.virtual_hosts[0].routes:
        match = route.match
        if path == match.path if match.HasField("path") else path.startswith(match.prefix):
            return route.route.cluster or f"plugin {route.route.cluster_specifier_plugin}"
    raise AssertionError(f"no route for {path}")


def expected(path: str) -> str:
    destination = FORWARDED.get(path)
    if destination is Destination.OWNER:
        return "plugin sessionmesh"
    return "router" if destination in (None, Destination.ANY_NODE) else destination.value


@pytest.mark.parametrize("path", METHODS)
def test_a_call_goes_where_the_proxy_would_forward_it(path: str) -> None:
    assert destination(route_table("sessionmesh"), path) == expected(path)


@pytest.mark.parametrize("path", METHODS)
def test_the_plain_listener_sends_every_call_to_the_routers(path: str) -> None:
    assert destination(route_table("sessionmesh-plain"), path) == "router"


def test_the_bulk_stream_and_the_list_of_sessions_go_to_the_routers() -> None:
    table = route_table("sessionmesh")
    assert destination(table, "/sessionmesh.v1.MessageService/SendMessages") == "router"
    assert destination(table, "/sessionmesh.v1.SessionService/ListSessions") == "router"
    assert destination(table, "/sessionmesh.v1.MessageService/SendMessage") == "plugin sessionmesh"


def test_services_that_are_not_ours_go_to_the_routers() -> None:
    assert destination(route_table("sessionmesh"), "/grpc.health.v1.Health/Check") == "router"


def test_every_route_retries_what_was_unavailable() -> None:
    for name in ("sessionmesh", "sessionmesh-plain"):
        for route in route_table(name).virtual_hosts[0].routes:
            assert route.route.retry_policy.retry_on == "unavailable"
            assert route.route.retry_policy.num_retries.value == 4
            assert 0 < route.route.retry_policy.retry_back_off.base_interval.ToMilliseconds() <= 100


def test_the_plugin_asks_for_the_account_of_the_account_scoped_services_alone() -> None:
    (plugin,) = route_table("sessionmesh").cluster_specifier_plugins
    specifier = RouteLookupClusterSpecifier()
    assert plugin.extension.typed_config.Unpack(specifier)
    config = specifier.route_lookup_config
    scoped = {
        path.split("/")[1] for path, destination in FORWARDED.items() if destination is Destination.OWNER
    }
    assert {builder.names[0].service for builder in config.grpc_keybuilders} == scoped
    for builder in config.grpc_keybuilders:
        assert [(header.key, list(header.names)) for header in builder.headers] == [
            ("account", ["x-account-id"]),
            ("attempts", ["grpc-previous-rpc-attempts"]),
        ]
    assert config.default_target == "router"
    assert config.lookup_service == "xds:///sessionmesh-plain"
    assert 0 < config.stale_age.seconds < config.max_age.seconds <= 300


def test_the_listeners_take_their_routes_from_the_same_stream() -> None:
    for name in ("sessionmesh", "sessionmesh-plain"):
        listener = unpacked(build(BACKENDS, None), resources.LISTENER_TYPE, name, listener_pb2.Listener())
        manager = http_connection_manager_pb2.HttpConnectionManager()
        assert listener.api_listener.api_listener.Unpack(manager)
        assert manager.rds.route_config_name == name
        assert manager.rds.config_source.WhichOneof("config_source_specifier") == "ads"
        assert [each.typed_config.type_url.rpartition(".")[2] for each in manager.http_filters] == ["Router"]


def endpoints(backends: Backends, cluster: str) -> list[list[str]]:
    """The addresses of each priority."""
    assignment = unpacked(
        build(backends, None), resources.ENDPOINT_TYPE, cluster, endpoint_pb2.ClusterLoadAssignment()
    )
    assert [group.priority for group in assignment.endpoints] == list(range(len(assignment.endpoints)))
    found = []
    for group in assignment.endpoints:
        assert all(each.health_status == core_pb2.HEALTHY for each in group.lb_endpoints)
        sockets = [each.endpoint.address.socket_address for each in group.lb_endpoints]
        found.append([f"{socket.address} {socket.port_value}" for socket in sockets])
    return found


def test_a_session_node_is_a_cluster_of_its_own() -> None:
    assert endpoints(BACKENDS, "node:node-1") == [["10.0.1.1 7601"]]


def test_where_no_instance_of_a_service_can_be_reached_the_routers_take_its_calls() -> None:
    routers = ["10.0.0.1 7600", "10.0.0.2 7600"]
    assert endpoints(BACKENDS, "media") == [["10.0.2.1 7602", "2001:db8::1 7602"], routers]
    assert endpoints(BACKENDS, "webhook") == [routers]


def cluster(name: str, tls: ClusterTls | None) -> cluster_pb2.Cluster:
    found: cluster_pb2.Cluster = unpacked(
        build(BACKENDS, tls), resources.CLUSTER_TYPE, name, cluster_pb2.Cluster()
    )
    return found


def test_a_client_may_have_more_calls_in_flight_than_it_allows_itself_by_default() -> None:
    assert cluster("router", None).circuit_breakers.thresholds[0].max_requests.value > 100_000


@pytest.mark.parametrize("name", ["router", "media", "node:node-1"])
@pytest.mark.parametrize("mutual", [False, True])
def test_clusters_of_a_mesh_with_tls_take_certificates_from_the_bootstrap_file(
    name: str, mutual: bool
) -> None:
    context = tls_pb2.UpstreamTlsContext()
    assert cluster(name, ClusterTls(mutual)).transport_socket.typed_config.Unpack(context)
    common = context.common_tls_context
    provider = common.validation_context.ca_certificate_provider_instance
    assert provider.instance_name == "sessionmesh"
    assert common.HasField("tls_certificate_provider_instance") is mutual


def test_clusters_of_a_mesh_without_tls_say_nothing_of_it() -> None:
    assert not cluster("router", None).HasField("transport_socket")


def test_the_same_state_gives_the_same_bytes() -> None:
    again = Backends(BACKENDS.routers, dict(BACKENDS.nodes), dict(BACKENDS.instances))
    assert build(BACKENDS, None) == build(again, None)
