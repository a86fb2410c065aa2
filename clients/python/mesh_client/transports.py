"""The transports by which calls reach the mesh, and which of them a call takes.

The xDS transport leads straight to an account's owner, the plain one to the routers.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Literal

from grpc import StatusCode

from mesh_client.bootstrap import PROCESS
from mesh_client.channels import MeshChannel, Tls
from mesh_client.diagnosis import Diagnosis, diagnose
from mesh_client.errors import FailedPrecondition, MeshCallError, Unavailable
from mesh_client.methods import Method
from mesh_client.plain import PlainTransport
from mesh_client.retries import Unreachable
from mesh_client.target import Target, TransportChoice
from mesh_client.xds import LISTENER, is_serving, open_xds_channel

logger = logging.getLogger("mesh_client")

CONTROL_PLANE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
TransportName = Literal["xds", "plain"]


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a client connects to, and how."""

    target: Target
    tls: Tls | None
    transport: TransportChoice


class Transports:
    """Opens each transport when a call first needs it. Belongs to one event loop."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._plain: PlainTransport | None = None
        self._xds: MeshChannel | None = None
        self._xds_works = False
        self._probe: asyncio.Task[bool | None] | None = None
        self._next_probe = 0.0
        self._diagnosis = Diagnosis("")
        self._diagnosed_at = -_DIAGNOSIS_SECONDS
        self._closed = False

    @property
    def current(self) -> TransportName:
        """The transport that calls about an account take now."""
        return "xds" if self._xds_works or self._destination.target.xds else "plain"

    async def channel(self, method: Method, attempt: int, seconds: float) -> MeshChannel:
        """The channel for attempt number `attempt` (from 0) of a call.

        Raises `Unreachable` when no router can be connected to within `seconds`, `FailedPrecondition` when
        xDS is required and not to be had.
        """
        if self._closed:
            raise FailedPrecondition(StatusCode.FAILED_PRECONDITION, "the client is closed")
        if self._destination.target.xds:
            return self._open_xds(self._destination.target.xds)
        if self._destination.transport == "xds":
            await self._require_xds(seconds)
        elif self._destination.transport == "auto" and method.by_account and not self._xds_works:
            await self._look_for_xds(min(seconds / 2, _PROBE_SECONDS))
        if self._xds is not None and self._xds_works and self._may_use_xds(method, attempt):
            return self._xds
        return await self._routers().channel(seconds)

    async def settle(self, seconds: float) -> TransportName:
        """Waits at most `seconds` until it is known whether there is xDS."""
        if self._destination.transport != "plain" and not self._destination.target.xds:
            await self._probed(seconds)
        return self.current

    async def diagnosed(self, failure: MeshCallError) -> tuple[MeshCallError, bool]:
        """A connection's `failure` with its cause in words, and whether it lasts until somebody acts."""
        now = _now()
        if now - self._diagnosed_at >= _DIAGNOSIS_SECONDS:
            self._diagnosed_at = now
            routers = self._destination.target.routers or PROCESS.servers()
            self._diagnosis = await diagnose(routers, self._destination.tls)
        if not self._diagnosis.sentence:
            return failure, False
        kind = Unreachable if isinstance(failure, Unreachable) else Unavailable
        return kind(StatusCode.UNAVAILABLE, self._diagnosis.sentence), self._diagnosis.lasting

    async def close(self) -> None:
        """Closes all channels; calls in flight are cancelled."""
        self._closed = True
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.wait([self._probe])
        if self._xds is not None:
            await self._xds.channel.close()
        if self._plain is not None:
            await self._plain.close()

    async def _look_for_xds(self, seconds: float) -> None:
        """Waits up to `seconds` for the first probe of xDS; later probes run in the background."""
        if self._probe is None:
            await self._probed(seconds)
        elif self._probe.done() and self._probe.result() is None and self._next_probe <= _now():
            self._probe = self._start_probe()

    async def _require_xds(self, seconds: float) -> None:
        if self._xds_works:
            return
        await self._probed(seconds)
        if self._xds_works:
            return
        if self._probe is not None and self._probe.done():
            if self._probe.result() is False:
                raise FailedPrecondition(
                    StatusCode.FAILED_PRECONDITION, _NO_XDS.format(self._destination.target)
                )
            self._probe = None
        raise Unreachable(StatusCode.UNAVAILABLE, f"xDS does not lead to {self._destination.target} now")

    def _may_use_xds(self, method: Method, attempt: int) -> bool:
        # gRPC's own retries are off on xDS channels, even those of calls that were never processed. So a call
        # that must not be sent twice is safer through a router, and so is one that has failed over xDS.
        return self._destination.transport == "xds" or (attempt == 0 and method.repeatable)

    async def _probed(self, seconds: float) -> None:
        if self._probe is None:
            self._probe = self._start_probe()
        await asyncio.wait([self._probe], timeout=max(0.0, seconds))

    def _start_probe(self) -> asyncio.Task[bool | None]:
        return asyncio.create_task(self._probe_xds(), name="probe xDS")

    async def _probe_xds(self) -> bool | None:
        """Whether calls can go over xDS; None when that could not be found out now."""
        try:
            found = await self._try_xds()
            self._next_probe = _now() + _PROBE_INTERVAL_SECONDS
        except Unavailable:
            found = None
            self._next_probe = _now() + _PROBE_SECONDS
        self._xds_works = bool(found)
        return found

    async def _try_xds(self) -> bool | None:
        router = await self._routers().channel(_PROBE_SECONDS)
        served = await is_serving(router, CONTROL_PLANE, _PROBE_SECONDS)
        if not served:
            return served
        if not PROCESS.claim(self._destination.target.routers, self._destination.tls):
            logger.info(
                "plain transport to %s: the process's xDS bootstrap is another mesh's",
                self._destination.target,
            )
            return False
        # The nodes that the routers advertise may not be reachable from here: then calls stay with routers.
        works = await is_serving(self._open_xds(LISTENER), "", _XDS_PROBE_SECONDS)
        if not works:
            logger.warning(
                "plain transport to %s: xDS is served, but its nodes cannot be reached",
                self._destination.target,
            )
        return works or None

    def _open_xds(self, target: str) -> MeshChannel:
        if self._xds is None:
            self._xds = open_xds_channel(target, self._destination.tls)
        return self._xds

    def _routers(self) -> PlainTransport:
        if self._plain is None:
            self._plain = PlainTransport(self._destination.target.routers, self._destination.tls)
        return self._plain


def _now() -> float:
    return asyncio.get_running_loop().time()


_PROBE_SECONDS = 1.0
_XDS_PROBE_SECONDS = 3.0
_PROBE_INTERVAL_SECONDS = 30.0
_DIAGNOSIS_SECONDS = 5.0
_NO_XDS = (
    "{} serves no xDS, or this process's xDS bootstrap is another mesh's: "
    "use transport='auto' or transport='plain'"
)
