"""The services that every server has besides its own.

Health and reflection ask for no key, though reflection shows what is between the parts of the mesh to
operators alone. channelz is for operators: it shows the addresses of callers and parts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

from google.protobuf import descriptor_pool
from grpc_channelz.v1 import channelz, channelz_pb2_grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from mesh_core.rpc.auth import Authenticator
from mesh_core.rpc.health import Health
from mesh_core.rpc.server.methods import Methods
from mesh_core.rpc.server.parsing import Context
from mesh_core.rpc.server.strangers import brief
from sessionmesh.v1.authorization_pb2 import SCOPE_OPERATOR, SCOPE_PUBLIC


class Reflection:
    """Describes services to anybody, and with an operator's key those between the parts of the mesh too."""

    def __init__(self, services: Iterable[str], authenticator: Authenticator) -> None:
        names = sorted(services)
        pool = descriptor_pool.Default()
        public = [name for name in names if not name.startswith(_INTERNAL)]
        self._public = reflection.aio.ReflectionServicer(public, _PublicSymbols(pool))
        self._all = reflection.aio.ReflectionServicer(names, _Symbols(pool))
        self._authenticator = authenticator

    @brief
    async def ServerReflectionInfo(
        self, request_iterator: AsyncIterator[Any], context: Context
    ) -> AsyncIterator[Any]:
        """Raises `Unauthenticated` for a key that is none."""
        shown = self._all if await self._is_operator(context) else self._public
        async for answer in shown.ServerReflectionInfo(request_iterator, context):
            yield answer

    async def _is_operator(self, context: Context) -> bool:
        metadata: Any = context.invocation_metadata()
        authorization = next((value for key, value in metadata if key == "authorization"), "")
        if not authorization:
            return False
        identity = await self._authenticator.authenticate(authorization, "")
        return SCOPE_OPERATOR in identity.scopes


def add_standard_services(methods: Methods, health: Health, authenticator: Authenticator) -> None:
    """Add them to `methods`, which must have all others by now: reflection lists them."""
    methods.add_generated(health_pb2_grpc.add_HealthServicer_to_server, health, SCOPE_PUBLIC)
    methods.add_generated(
        channelz_pb2_grpc.add_ChannelzServicer_to_server, channelz.aio.ChannelzServicer(), SCOPE_OPERATOR
    )
    methods.add_generated(
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server,
        Reflection({*methods.services, reflection.SERVICE_NAME}, authenticator),
        SCOPE_PUBLIC,
    )
    # grpcio-reflection brings v1alpha only; v1 is the same on the wire, and newer clients ask for it first.
    methods.alias(reflection.SERVICE_NAME, "grpc.reflection.v1.ServerReflection")


class _Symbols:
    """A descriptor pool for reflection that knows methods, too: `grpcurl describe` asks for them by name."""

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> Any:
        """The descriptor of the file; KeyError when there is none."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            return self._pool.FindMethodByName(symbol).containing_service.file


class _PublicSymbols(_Symbols):
    """The same without what is between the parts of the mesh: KeyError for that."""

    def FindFileByName(self, name: str) -> Any:
        return _shown(self._pool.FindFileByName(name))

    def FindFileContainingSymbol(self, symbol: str) -> Any:
        return _shown(super().FindFileContainingSymbol(symbol))

    def FindMessageTypeByName(self, name: str) -> Any:
        found = self._pool.FindMessageTypeByName(name)
        _shown(found.file)
        return found


def _shown(file: Any) -> Any:
    if f"{file.package}.".startswith(_INTERNAL):
        raise KeyError(file.name)
    return file


_INTERNAL = ("sessionmesh.internal.", "sessionmesh.simnet.")
