"""The resources that gRPC clients ask for, built from who is alive. Pure: the same input, the same bytes."""

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
"""The listener, and its routes, whose account-scoped calls go straight to the owner."""
PLAIN = "sessionmesh-plain"
"""The one for clients without the route lookup plugin: everything to the routers."""
ACCOUNT_KEY = "account"
ACCOUNT_HEADER = "x-account-id"
ATTEMPTS_KEY = "attempts"
ATTEMPTS_HEADER = "grpc-previous-rpc-attempts"
"""What gRPC clients add to a call that they make again."""
CERTIFICATES = "sessionmesh"
"""The certificate provider that a client's bootstrap file defines where the mesh speaks TLS."""

RETRIES = 4
"""Five attempts are the most that gRPC clients make."""
RETRY_AFTER = 0.05
RETRY_AFTER_AT_MOST = 1.0
LOOKUP_TIMEOUT = 2.0
MAX_AGE = 300.0
"""Seconds that a client may use an answer: the most that gRPC clients take. So long it reaches its accounts'
owners while no router can be asked.
"""
STALE_AGE = 120.0
"""Seconds after which an answer in use is asked for again, meanwhile: so long an account that moved may take
the hop through its former owner or a router.
"""
CACHE_BYTES = 5 * 1024 * 1024
"""The most that gRPC clients take: about 10,000 accounts in use at a time."""
MOST_CALLS = 1_000_000
"""Calls in flight from a client to a cluster. Above 1,024 clients fail them when nothing is said."""

Packed = dict[str, dict[str, Any]]
"""By type, by name."""


@dataclass(frozen=True, slots=True)
class Backends:
    """Who is alive, by their addresses: IP address and port.

    `nodes` are those of the session-nodes by id, `instances` those of each kind of `KINDS`. All are sorted,
    each once.
    """

    routers: tuple[str, ...]
    nodes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    instances: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClusterTls:
    """The mesh speaks TLS; `mutual` says that it asks callers for a certificate too."""

    mutual: bool

    @classmethod
    def of(cls, settings: ServerSettings) -> Self | None:
        """As the router itself serves; None without TLS."""
        return cls(bool(settings.tls_client_ca)) if settings.tls_certificate else None


def node_cluster(node_id: str) -> str:
    """The name of a session-node's cluster."""
    return f"node:{node_id}"


def build(backends: Backends, tls: ClusterTls | None) -> Packed:
    """All resources."""
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
    # On the route: not every client reads the virtual host's.
    retry = route.route.retry_policy
    retry.retry_on = "unavailable"
    retry.num_retries.value = RETRIES
    retry.retry_back_off.base_interval.FromNanoseconds(int(RETRY_AFTER * 1e9))
    retry.retry_back_off.max_interval.FromNanoseconds(int(RETRY_AFTER_AT_MOST * 1e9))
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
        # So lookups have all routers to go to, and TLS as the bootstrap file says.
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
    cluster.circuit_breakers.thresholds.add().max_requests.value = MOST_CALLS
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
        # Where no instance answers, the routers do: they wait for one, and say so when none comes.
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
