"""Builds the resources that gRPC clients ask for. Pure: the same input gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from mesh_core.settings import ServerSettings
from mesh_router.proxy.routes import KINDS, Destination
from mesh_router.xds.routing import ROUTER, ServiceRoute, service_routes
from mesh_wire.lookup import rls_config_pb2 as rls
from mesh_wire.xds import (
    cluster_pb2,
    core_pb2,
    endpoint_pb2,
    http_connection_manager_pb2,
    listener_pb2,
    route_pb2,
    router_filter_pb2,
    tls_pb2,
)

LISTENER_TYPE = "type.googleapis.com/envoy.config.listener.v3.Listener"
ROUTE_TYPE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
CLUSTER_TYPE = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
ENDPOINT_TYPE = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"

DIRECT = "sessionmesh"
"""The name of the listener, and of its routes, whose account-scoped calls go straight to the owner."""
PLAIN = "sessionmesh-plain"
"""The listener for clients without the route lookup plugin: all calls go to the routers."""
ACCOUNT_KEY = "account"
ACCOUNT_HEADER = "x-account-id"
ATTEMPTS_KEY = "attempts"
ATTEMPTS_HEADER = "grpc-previous-rpc-attempts"
"""The metadata that gRPC clients add to a call that they retry."""
CERTIFICATES = "sessionmesh"
"""The certificate provider that a client's bootstrap file defines where the mesh speaks TLS."""

RETRIES = 4
"""gRPC clients make five attempts at most."""
MIN_RETRY_BACKOFF = 0.05
MAX_RETRY_BACKOFF = 1.0
LOOKUP_TIMEOUT = 2.0
"""Seconds, as are the two above."""
MAX_AGE = 300.0
"""Seconds that a client may use a lookup's answer, the longest that gRPC clients accept. For this long it
finds its accounts' owners without any router.
"""
STALE_AGE = 120.0
"""Seconds after which a client refreshes an answer that it uses. For this long the calls of an account that
moved may go through its former owner or a router.
"""
CACHE_BYTES = 5 * 1024 * 1024
"""The largest cache that gRPC clients accept: about 10,000 accounts in use at a time."""
MAX_CALLS = 1_000_000
"""Calls in flight from a client to a cluster. Without this clients fail calls above 1,024."""

Packed = dict[str, dict[str, Any]]
"""Resources by type, by name."""


@dataclass(frozen=True, slots=True)
class Backends:
    """The live endpoints, as IP address and port, sorted and without duplicates.

    `nodes` are those of session-nodes by node id, `instances` those of services by kind (`KINDS`).
    """

    routers: tuple[str, ...]
    nodes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    instances: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClusterTls:
    """The mesh uses TLS; `mutual`: it demands certificates of its callers."""

    mutual: bool

    @classmethod
    def of(cls, settings: ServerSettings) -> Self | None:
        """From the settings of the router's own server; None without TLS."""
        return cls(bool(settings.tls_client_ca)) if settings.tls_certificate else None


def node_cluster(node_id: str) -> str:
    """The name of a session-node's cluster."""
    return f"node:{node_id}"


def build(backends: Backends, tls: ClusterTls | None) -> Packed:
    """All resources of all types."""
    clusters = dict(_endpoints(backends))
    return {
        CLUSTER_TYPE: {name: _pack(_cluster(name, tls)) for name in clusters},
        ENDPOINT_TYPE: {name: _pack(endpoints) for name, endpoints in clusters.items()},
        LISTENER_TYPE: {name: _pack(_listener(name)) for name in (DIRECT, PLAIN)},
        ROUTE_TYPE: {DIRECT: _pack(_direct_routes()), PLAIN: _pack(_plain_routes())},
    }


def _listener(name: str) -> listener_pb2.Listener:
    manager = http_connection_manager_pb2.HttpConnectionManager(
        rds=http_connection_manager_pb2.Rds(config_source=_this_stream(), route_config_name=name)
    )
    manager.http_filters.add(name="router").typed_config.CopyFrom(_pack(router_filter_pb2.Router()))
    return listener_pb2.Listener(
        name=name, api_listener=listener_pb2.ApiListener(api_listener=_pack(manager))
    )


def _plain_routes() -> route_pb2.RouteConfiguration:
    return route_pb2.RouteConfiguration(name=PLAIN, virtual_hosts=[_virtual_host([_rest()])])


def _direct_routes() -> route_pb2.RouteConfiguration:
    table = service_routes()
    plugin = core_pb2.TypedExtensionConfig(name=DIRECT, typed_config=_pack(_lookup(table)))
    return route_pb2.RouteConfiguration(
        name=DIRECT,
        virtual_hosts=[_virtual_host([*_of_services(table), _rest()])],
        cluster_specifier_plugins=[route_pb2.ClusterSpecifierPlugin(extension=plugin)],
    )


def _virtual_host(routes: list[route_pb2.Route]) -> route_pb2.VirtualHost:
    return route_pb2.VirtualHost(name="all", domains=["*"], routes=routes)


def _of_services(table: Iterable[ServiceRoute]) -> Iterator[route_pb2.Route]:
    for service in table:  # the first route that matches counts
        for name in service.by_router:
            yield _route(route_pb2.RouteMatch(path=f"/{service.service}/{name}"), cluster=ROUTER)
        match = route_pb2.RouteMatch(prefix=f"/{service.service}/")
        if service.destination is Destination.OWNER:
            yield _route(match, plugin=DIRECT)
        else:
            yield _route(match, cluster=service.destination.value)


def _rest() -> route_pb2.Route:
    return _route(route_pb2.RouteMatch(prefix=""), cluster=ROUTER)


def _route(match: route_pb2.RouteMatch, *, cluster: str = "", plugin: str = "") -> route_pb2.Route:
    route = route_pb2.Route(match=match)
    if plugin:
        route.route.cluster_specifier_plugin = plugin
    else:
        route.route.cluster = cluster
    # Set on each route, since not every client reads the virtual host's policy.
    retry = route.route.retry_policy
    retry.retry_on = "unavailable"
    retry.num_retries.value = RETRIES
    retry.retry_back_off.base_interval.FromNanoseconds(int(MIN_RETRY_BACKOFF * 1e9))
    retry.retry_back_off.max_interval.FromNanoseconds(int(MAX_RETRY_BACKOFF * 1e9))
    return route


def _lookup(table: Iterable[ServiceRoute]) -> rls.RouteLookupClusterSpecifier:
    config = rls.RouteLookupConfig(
        grpc_keybuilders=[
            rls.GrpcKeyBuilder(
                names=[rls.GrpcKeyBuilder.Name(service=service.service)],
                headers=[
                    rls.NameMatcher(key=ACCOUNT_KEY, names=[ACCOUNT_HEADER]),
                    rls.NameMatcher(key=ATTEMPTS_KEY, names=[ATTEMPTS_HEADER]),
                ],
            )
            for service in table
            if service.destination is Destination.OWNER
        ],
        # Found through xDS, so that all routers serve lookups, with the bootstrap file's TLS.
        lookup_service=f"xds:///{PLAIN}",
        cache_size_bytes=CACHE_BYTES,
        default_target=ROUTER,
    )
    config.lookup_service_timeout.FromNanoseconds(int(LOOKUP_TIMEOUT * 1e9))
    config.max_age.FromNanoseconds(int(MAX_AGE * 1e9))
    config.stale_age.FromNanoseconds(int(STALE_AGE * 1e9))
    return rls.RouteLookupClusterSpecifier(route_lookup_config=config)


def _cluster(name: str, tls: ClusterTls | None) -> cluster_pb2.Cluster:
    cluster = cluster_pb2.Cluster(
        name=name,
        type=cluster_pb2.Cluster.EDS,
        eds_cluster_config=cluster_pb2.Cluster.EdsClusterConfig(eds_config=_this_stream()),
        lb_policy=cluster_pb2.Cluster.ROUND_ROBIN,
    )
    cluster.circuit_breakers.thresholds.add().max_requests.value = MAX_CALLS
    if tls is not None:
        provider = tls_pb2.CertificateProviderPluginInstance(instance_name=CERTIFICATES)
        common = tls_pb2.CommonTlsContext(
            validation_context=tls_pb2.CertificateValidationContext(ca_certificate_provider_instance=provider)
        )
        if tls.mutual:
            common.tls_certificate_provider_instance.CopyFrom(provider)
        cluster.transport_socket.name = "envoy.transport_sockets.tls"
        context = tls_pb2.UpstreamTlsContext(common_tls_context=common)
        cluster.transport_socket.typed_config.CopyFrom(_pack(context))
    return cluster


def _endpoints(backends: Backends) -> Iterator[tuple[str, endpoint_pb2.ClusterLoadAssignment]]:
    yield ROUTER, _assignment(ROUTER, backends.routers)
    for kind in KINDS:
        # The fallback are the routers, which wait for an instance, and answer NO_INSTANCE when none comes.
        yield kind, _assignment(kind, backends.instances.get(kind, ()), backends.routers)
    for node_id, addresses in backends.nodes.items():
        name = node_cluster(node_id)
        yield name, _assignment(name, addresses)


def _assignment(cluster: str, *choices: tuple[str, ...]) -> endpoint_pb2.ClusterLoadAssignment:
    """`choices` are addresses in order of preference."""
    assignment = endpoint_pb2.ClusterLoadAssignment(cluster_name=cluster)
    for priority, choice in enumerate(filter(None, choices)):
        locality = assignment.endpoints.add(priority=priority)
        locality.locality.sub_zone = str(priority)
        locality.load_balancing_weight.value = 1
        for address in choice:
            host, _, port = address.rpartition(":")
            added = locality.lb_endpoints.add(health_status=core_pb2.HEALTHY)
            added.endpoint.address.socket_address.address = host.strip("[]")
            added.endpoint.address.socket_address.port_value = int(port)
    return assignment


def _this_stream() -> core_pb2.ConfigSource:
    return core_pb2.ConfigSource(ads=core_pb2.AggregatedConfigSource(), resource_api_version=core_pb2.V3)


def _pack(message: Message) -> Any:
    packed = Any()
    packed.Pack(message, deterministic=True)
    return packed
