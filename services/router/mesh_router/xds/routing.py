"""Where xDS clients send each call: the proxy's routing table, by service.

Account-scoped services go to the account's owner, and services of another part to its instances. Everything
else goes to the routers, also methods that the router splits or distributes itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf import descriptor_pool

from mesh_router.proxy.routes import Destination, routes

ROUTER = "router"
"""The cluster of the routers."""


@dataclass(frozen=True, slots=True)
class ServiceRoute:
    """All calls of `service`, but those of `by_router`, go to `destination`: OWNER, or a kind of service."""

    service: str
    destination: Destination
    by_router: tuple[str, ...] = ()


def service_routes() -> tuple[ServiceRoute, ...]:
    """The services whose calls do not all go to the routers."""
    forwarded: dict[str, dict[str, Destination]] = {}
    for route in routes():
        if route.destination is not Destination.ANY_NODE:
            forwarded.setdefault(route.service, {})[route.name] = route.destination
    return tuple(_service_route(service, methods) for service, methods in sorted(forwarded.items()))


def _service_route(service: str, methods: dict[str, Destination]) -> ServiceRoute:
    (destination,) = set(methods.values())  # the same for all that is not the routers'
    described = descriptor_pool.Default().FindServiceByName(service)
    by_router = tuple(method.name for method in described.methods if method.name not in methods)
    return ServiceRoute(service, destination, by_router)
