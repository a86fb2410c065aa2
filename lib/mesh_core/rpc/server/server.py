"""The server of a service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import structlog

from mesh_core.errors import StartupError
from mesh_core.metrics.certificates import show_expiry
from mesh_core.rpc.audit import AuditLog
from mesh_core.rpc.auth import Authenticator
from mesh_core.rpc.health import Health
from mesh_core.rpc.limits import Entry
from mesh_core.rpc.options import server_options
from mesh_core.rpc.server.bodies import Bodies
from mesh_core.rpc.server.connections import end_connections
from mesh_core.rpc.server.drain import CallsInFlight, Draining
from mesh_core.rpc.server.gate import Gate, NotOwnerHandler
from mesh_core.rpc.server.methods import Methods
from mesh_core.rpc.server.open_streams import OpenStreams
from mesh_core.rpc.server.peers import PeerListener
from mesh_core.rpc.server.readiness import Readiness
from mesh_core.rpc.server.refusals import Refusals
from mesh_core.rpc.server.standard import add_standard_services
from mesh_core.rpc.server.strangers import Strangers
from mesh_core.settings import ServerSettings, is_every_address
from mesh_core.telemetry.metrics_page import MetricsPage, serve_metrics
from sessionmesh.internal.v1 import peer_pb2_grpc
from sessionmesh.v1.authorization_pb2 import Scope

logger = structlog.get_logger(__name__)


class Server:
    """A gRPC server: `add` services, `start`, later `drain`, then `stop`.

    Every handler added runs with `auth.current_identity()` and `tracing.current_traceparent()` set, may raise
    any `MeshError`, and is refused to callers whose key lacks the scope that its proto names. `entry` counts
    the calls that enter the mesh here, `audit` notes those of them that change what lives on; `shared_port`
    is for processes that answer on one port together.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        authenticator: Authenticator,
        entry: Entry | None = None,
        audit: AuditLog | None = None,
        shared_port: bool = False,
    ) -> None:
        self.draining = Draining()
        self.port = 0
        self._own: list[str] = []
        self.metrics_port = 0
        self._settings = settings
        self._shared_port = shared_port
        self._in_flight = CallsInFlight()
        self._open_streams = OpenStreams(authenticator)
        entry = entry or Entry()
        self._refusals = Refusals(entry.sources, lambda peers: end_connections(self.port, peers))
        self._gate = Gate(
            authenticator,
            self.draining,
            self._in_flight,
            entry,
            self._open_streams,
            Strangers(entry.sources.of),
            self._refusals,
            Bodies(entry.is_relayed),
            audit,
        )
        self._methods = Methods(self._gate)
        self._peer_listener = PeerListener(self._methods, settings)
        self._health = Health()
        self.readiness = Readiness(self._show_readiness)
        """What it needs is to be said before `start`, and `run` to be run: it is ready without needs."""
        self._server: grpc.aio.Server | None = None
        self._metrics: MetricsPage | None = None
        self._drain_until: float | None = None

    @property
    def address(self) -> str:
        """Where others reach this server: `advertise`, else the address bound."""
        return self._settings.advertise or f"{self._settings.listen.rpartition(':')[0]}:{self.port}"

    @property
    def metrics_address(self) -> str:
        """Where those who may read this server's metrics page find it."""
        listen = self._settings.metrics_listen
        host = (self.address if is_every_address(listen) else listen).rpartition(":")[0]
        return f"{host}:{self.metrics_port}"

    def add(
        self,
        add_to_server: Callable[[Any, Any], None],
        servicer: object,
        *,
        scope: Scope.ValueType | None = None,
    ) -> None:
        """Serve `servicer` with its generated `add_...Servicer_to_server`.

        `scope` is for protos that are not ours and so cannot name it. Methods that the servicer does not
        define are answered UNIMPLEMENTED.
        """
        self._methods.add_generated(add_to_server, servicer, scope)

    def add_bytes(
        self,
        service: str,
        handlers: Mapping[str, Callable[..., Any]],
        *,
        scope: Scope.ValueType | None = None,
    ) -> None:
        """Serve methods of `service` (its full name) with coroutine functions `(request, context)` of bytes.

        The proto decides about the kind: a streaming request is an async iterator of bytes, a streaming
        response an async generator or `context.write`. Replaces what `add` put there before.
        """
        self._methods.add_bytes(service, handlers, scope)

    def forward_not_owned(self, handler: NotOwnerHandler) -> None:
        """Let `handler` answer unary calls whose handler raises `NotOwner`."""
        self._gate.not_owner_handler = handler

    def bind(self) -> int:
        """Take the addresses, which are known from now on; `start` serves, and binds by itself otherwise.

        Returns the port. Raises `StartupError` when an address is taken.
        """
        settings = self._settings
        self._server = grpc.aio.server(
            handlers=(self._methods,), options=server_options(settings, shared_port=self._shared_port)
        )
        self.port = _bind(self._server, settings)
        health = self._health
        self._metrics = serve_metrics(
            settings.metrics_listen, lambda: health.reason, lambda: "" if health.started else health.reason
        )
        self.metrics_port = self._metrics.port
        return self.port

    async def start(self, *, healthy: bool = True) -> int:
        """Bind, serve and be healthy (or that later); the port. Raises `StartupError` when an address is
        taken.
        """
        own = sorted(self._methods.services)
        self.add(peer_pb2_grpc.add_PeerServiceServicer_to_server, self._peer_listener)
        add_standard_services(self._methods, self._health, self._gate.authenticator)
        if self._server is None:
            self.bind()
        assert self._server is not None  # noqa: S101 - bound
        await self._server.start()
        self._own = own
        self._health.set_all(own, serving=healthy)
        self._show_readiness()
        logger.info("serving", address=self.address, metrics_port=self.metrics_port, services=own)
        return self.port

    def become_healthy(self) -> None:
        """Say SERVING from now on: `start` was told that there is more to do before."""
        if not self.draining.begun:
            self._health.set_all(self._own, serving=True)

    async def drain(self) -> None:
        """Say NOT_SERVING, end the streams with GOING_AWAY, wait for the calls in flight, `drain_seconds` at
        most.

        Unary calls that arrive meanwhile are still served, and callers get a moment to change to another
        server: gRPC cancels calls that arrive while it shuts down (grpc/grpc#41785), before it has told
        everybody.
        """
        if self.draining.begun:
            return
        now = asyncio.get_running_loop().time()
        self._drain_until = now + self._settings.drain_seconds
        self._health.set_all(self._methods.services, serving=False)
        self._health.set_ready("it drains", started=self.readiness.started)
        before = self._in_flight.new_period()
        self.draining.begin()
        await self._in_flight.end_streams(min(now + _STREAM_END_SECONDS, self._drain_until))
        if await before.wait_empty(min(now + _DEAF_SECONDS, self._drain_until)):
            self._in_flight.give_up_deaf()
        left = await before.wait_empty(self._drain_until)
        now = asyncio.get_running_loop().time()
        await self._in_flight.wait_quiet(
            _QUIET_SECONDS, min(now + _MAX_QUIET_WAIT_SECONDS, self._drain_until)
        )
        logger.info("drained", calls_left=left)

    def _show_readiness(self) -> None:
        if not self._own or self.draining.begun:  # it does not serve yet, or no more
            return
        self._health.set_ready(self.readiness.reason, started=self.readiness.started)

    async def stop(self) -> None:
        """Refuse new calls and close. Calls in flight get what is left of the drain's time, if any."""
        if self._server is not None:
            grace = None
            if self._drain_until is not None:
                await self._peer_listener.finish(self._drain_until)
                grace = max(0.0, self._drain_until - asyncio.get_running_loop().time())
                if self._in_flight.deaf:  # gRPC would wait for them as for the others
                    grace = min(grace, _DEAF_SECONDS)
            await self._peer_listener.close()
            await self._server.stop(grace or None)
            self._server = None
        await self._open_streams.close()
        await self._refusals.close()
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None


_STREAM_END_SECONDS = 1.0
"""How long streams get to end by themselves, with a resume token, before they are cancelled."""
_DEAF_SECONDS = 2.0
"""How long callers that read nothing are waited for: from a drain's begin, and again at the stop."""
_QUIET_SECONDS = 0.2
_MAX_QUIET_WAIT_SECONDS = 2.0
"""A drain waits until no call came for `_QUIET_SECONDS`, this long at most."""


def _bind(server: grpc.aio.Server, settings: ServerSettings) -> int:
    try:
        if not settings.tls_certificate:
            return server.add_insecure_port(settings.listen)
        return server.add_secure_port(settings.listen, _credentials(settings))
    except RuntimeError:
        # gRPC's own text has every resolved address and its C++ source lines
        raise StartupError(
            f"MESH_SERVER_LISTEN={settings.listen!r} cannot be bound: is another process listening there?"
        ) from None


def _credentials(settings: ServerSettings) -> grpc.ServerCredentials:
    pair = Path(settings.tls_key).read_bytes(), Path(settings.tls_certificate).read_bytes()
    client_ca = Path(settings.tls_client_ca).read_bytes() if settings.tls_client_ca else None
    show_expiry("server", pair[1])
    if client_ca is not None:
        show_expiry("client_ca", client_ca)
    return grpc.ssl_server_credentials(
        [pair], root_certificates=client_ca, require_client_auth=client_ca is not None
    )
