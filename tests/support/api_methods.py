"""The public API, as the descriptors of the generated modules have it."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, MethodDescriptor

import sessionmesh
from sessionmesh.v1 import authorization_pb2

PRIVATE = ("sessionmesh.internal.", "sessionmesh.simnet.")
"""Packages that only the parts of the mesh speak among themselves."""


@dataclass(frozen=True, slots=True)
class ApiMethod:
    """A method of the public API."""

    service: str
    name: str
    request: Descriptor
    response: Descriptor
    request_streaming: bool
    response_streaming: bool
    scope: int

    @property
    def path(self) -> str:
        """As on the wire: /service/name."""
        return f"/{self.service}/{self.name}"

    @property
    def short(self) -> str:
        """For people: MessageService.SendMessage."""
        return f"{self.service.rpartition('.')[2]}.{self.name}"


@cache
def public_methods() -> tuple[ApiMethod, ...]:
    """Every method of the public protos, by service and then in the order of the proto."""
    files = set()
    for module in pkgutil.walk_packages(sessionmesh.__path__, "sessionmesh."):
        if module.name.endswith("_pb2") and not module.name.startswith(PRIVATE):
            files.add(importlib.import_module(module.name).DESCRIPTOR.name)
    pool = descriptor_pool.Default()
    services = [each for name in files for each in pool.FindFileByName(name).services_by_name.values()]
    services.sort(key=lambda service: str(service.full_name))
    return tuple(_method(method) for service in services for method in service.methods)


@cache
def request_types() -> frozenset[str]:
    """The full names of all requests. One that has others in it takes items with answers of their own."""
    return frozenset(str(method.request.full_name) for method in public_methods())


@cache
def _by_name() -> dict[str, ApiMethod | None]:
    """Methods by their short name, and by their bare one; None where several have one of that name."""
    found: dict[str, ApiMethod | None] = {}
    for method in public_methods():
        found[method.short] = method
        found[method.name] = None if method.name in found else method
    return found


def named(name: str) -> ApiMethod:
    """The method `SendMessage` or `MessageService.SendMessage`; `KeyError` if there is not exactly one."""
    method = _by_name().get(name)
    if method is None:
        raise KeyError(f"{name} is not the name of exactly one method of the API")
    return method


def _method(method: MethodDescriptor) -> ApiMethod:
    return ApiMethod(
        method.containing_service.full_name,
        method.name,
        method.input_type,
        method.output_type,
        method.client_streaming,
        method.server_streaming,
        int(method.GetOptions().Extensions[authorization_pb2.scope]),
    )
