"""The roads from a client to the mesh, and which one a call takes."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Literal

from grpc import StatusCode

from mesh_client.bootstrap import PROCESS
from mesh_client.diagnosis import Finding, diagnose
from mesh_client.direct import LISTENER, open_direct, serves
from mesh_client.errors import FailedPrecondition, MeshCallError, Unavailable
from mesh_client.methods import Method
from mesh_client.plain import PlainRoad
from mesh_client.retries import Unreachable
from mesh_client.target import RoadChoice, Target
from mesh_client.transport import Link, Tls

logger = logging.getLogger("mesh_client")

CONTROL_PLANE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
Road = Literal["xds", "plain"]


@dataclass(frozen=True, slots=True)
class Way:
    """Where a client connects to, and how."""

    target: Target
    tls: Tls | None
    choice: RoadChoice


class Roads:
    """Opens what a call needs when it first needs it. Of one event loop."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._plain: PlainRoad | None = None
        self._direct: Link | None = None
        self._direct_works = False
        self._settling: asyncio.Task[bool | None] | None = None
        self._ask_again = 0.0
        self._finding = Finding("")
        self._found_at = -_REMEMBERED
        self._closed = False

    @property
    def current(self) -> Road:
        """The road that calls about an account take now."""
        return "xds" if self._direct_works or self._way.target.xds else "plain"

    async def link(self, method: Method, attempt: int, seconds: float) -> Link:
        """What to make attempt number `attempt` (from 0) of a call through.

        Raises `Unreachable` when no router can be connected to within `seconds`, `FailedPrecondition` when
        the direct road is insisted on and there is none.
        """
        if self._closed:
            raise FailedPrecondition(StatusCode.FAILED_PRECONDITION, "the client is closed")
        if self._way.target.xds:
            return self._open_direct(self._way.target.xds)
        if self._way.choice == "xds":
            await self._insist(seconds)
        elif self._way.choice == "auto" and method.by_account and not self._direct_works:
            await self._consider(min(seconds / 2, _PATIENCE))
        if self._direct is not None and self._direct_works and self._goes_directly(method, attempt):
            return self._direct
        return await self._routers().link(seconds)

    async def settle(self, seconds: float) -> Road:
        """Wait, no longer than `seconds`, until it is known which road there is."""
        if self._way.choice != "plain" and not self._way.target.xds:
            await self._settled(seconds)
        return self.current

    async def explained(self, failure: MeshCallError) -> tuple[MeshCallError, bool]:
        """`failure` of a connection in words that help; and whether it will not pass by itself."""
        now = _now()
        if now - self._found_at >= _REMEMBERED:
            self._found_at = now
            routers = self._way.target.routers or PROCESS.servers()
            self._finding = await diagnose(routers, self._way.tls)
        if not self._finding.sentence:
            return failure, False
        return Unavailable(StatusCode.UNAVAILABLE, self._finding.sentence), self._finding.lasting

    async def close(self) -> None:
        """Close all; calls in flight are cancelled."""
        self._closed = True
        if self._settling is not None:
            self._settling.cancel()
            await asyncio.wait([self._settling])
        if self._direct is not None:
            await self._direct.channel.close()
        if self._plain is not None:
            await self._plain.close()

    async def _consider(self, seconds: float) -> None:
        """Give the direct road a little time to be found, once; after that calls do not wait for it."""
        if self._settling is None:
            await self._settled(seconds)
        elif self._settling.done() and self._settling.result() is None and self._ask_again <= _now():
            self._settling = self._begin()

    async def _insist(self, seconds: float) -> None:
        if self._direct_works:
            return
        await self._settled(seconds)
        if self._direct_works:
            return
        if self._settling is not None and self._settling.done():
            if self._settling.result() is False:
                raise FailedPrecondition(StatusCode.FAILED_PRECONDITION, _NO_DIRECT.format(self._way.target))
            self._settling = None
        raise Unreachable(StatusCode.UNAVAILABLE, f"no xDS road to {self._way.target}")

    def _goes_directly(self, method: Method, attempt: int) -> bool:
        # The direct road has none of gRPC's own retries, not even of what was never processed: a call that
        # must not be sent twice is safer on the other, and so is one that has failed there.
        return self._way.choice == "xds" or (attempt == 0 and method.repeatable)

    async def _settled(self, seconds: float) -> None:
        if self._settling is None:
            self._settling = self._begin()
        await asyncio.wait([self._settling], timeout=max(0.0, seconds))

    def _begin(self) -> asyncio.Task[bool | None]:
        return asyncio.create_task(self._find_direct(), name="look for the direct road")

    async def _find_direct(self) -> bool | None:
        """Whether there is a direct road; None when that could not be learnt now."""
        try:
            found = await self._try_direct()
            self._ask_again = _now() + _ASK_AGAIN
        except Unavailable:
            found = None
            self._ask_again = _now() + _PATIENCE
        self._direct_works = bool(found)
        return found

    async def _try_direct(self) -> bool | None:
        router = await self._routers().link(_PATIENCE)
        served = await serves(router, CONTROL_PLANE, _PATIENCE)
        if not served:
            return served
        if not PROCESS.claim(self._way.target.routers, self._way.tls):
            logger.info("plain road to %s: the process's xDS bootstrap is another mesh's", self._way.target)
            return False
        # What the routers advertise may not be reachable from here: then the plain road stays.
        works = await serves(self._open_direct(LISTENER), "", _DIRECT_PATIENCE)
        if not works:
            logger.warning(
                "plain road to %s: xDS is served but does not lead there from here", self._way.target
            )
        return works or None

    def _open_direct(self, target: str) -> Link:
        if self._direct is None:
            self._direct = open_direct(target, self._way.tls)
        return self._direct

    def _routers(self) -> PlainRoad:
        if self._plain is None:
            self._plain = PlainRoad(self._way.target.routers, self._way.tls)
        return self._plain


def _now() -> float:
    return asyncio.get_running_loop().time()


_PATIENCE = 1.0
_DIRECT_PATIENCE = 3.0
_ASK_AGAIN = 30.0
_REMEMBERED = 5.0
_NO_DIRECT = (
    "{} serves no xDS, or this process's xDS bootstrap is another mesh's: use road='auto' or road='plain'"
)
