"""The protocol of one xDS client, without I/O: its subscriptions, what it was sent, and what it accepted.

It is the state-of-the-world variant of xDS. A request names all resources of a type that the client wants,
and by its nonce the response that it accepts (ACK) or refuses (NACK). A request with the nonce of an older
response is ignored: the client has not seen the newest one yet, and will send another request.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from sys import getsizeof

from mesh_core.errors import InvalidField, ResourceExhausted
from mesh_core.metrics import counters
from mesh_router.xds.snapshot import TYPES, WHOLE, Response, Snapshot, Subscription
from mesh_wire.xds import core_pb2
from mesh_wire.xds.discovery_pb2 import DiscoveryRequest

MAX_NAMES = 4096
MAX_NAME_LENGTH = 512
MAX_UNKNOWN_BYTES = 96 * 1024
"""Memory that the names a client asks for may take which do not exist: some six hundred names of nodes. Those
that exist are no more than there are resources.
"""
_MAX_REASON_LENGTH = 1000
_SLOT_BYTES = 64  # a name's share of a set, which is up to three fifths full
_NOTHING: frozenset[str] = frozenset()
_TYPES = ("Cluster", "ClusterLoadAssignment", "Listener", "RouteConfiguration")
PUSHES = counters(
    "mesh_xds_pushes_total",
    "Responses sent to xDS clients.",
    answers="How much do clients on xDS cost?",
    type=_TYPES,
)
NACKS = counters(
    "mesh_xds_nacks_total",
    "Responses that xDS clients refused.",
    answers="Do clients understand what they are told?",
    type=_TYPES,
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A NACK: why the client refused the response with this version, and when (Unix time)."""

    type_url: str
    version: str
    reason: str
    at: float


@dataclass(slots=True)
class Watch:
    """A client's subscription to one type, and how far it is."""

    subscription: Subscription
    fresh: frozenset[str]
    """Names subscribed to since the last response."""
    number: int = 0
    """Number of the snapshot that the client is up to date with."""
    version: str = ""
    """Version of what the subscription covers in that snapshot; "" when a response is due in any case."""
    nonce: str = ""
    sent_version: str = ""
    """Nonce and version of the last response."""
    answered: bool = False
    """Whether the client has accepted or refused the last response."""
    acknowledged: str = ""
    """The last version that the client accepted."""
    refusal: Refusal | None = None
    """The refusal of the last response."""
    unknown_bytes: int = 0
    """What the names take that did not exist when they were asked for."""


class Client:
    """One stream of one client."""

    __slots__ = ("node", "node_id", "watches")

    def __init__(self) -> None:
        self.node: bytes | None = None
        """The serialised Node; None until the first request."""
        self.node_id = ""
        self.watches: dict[str, Watch] = {}

    def take(self, request: DiscoveryRequest, snapshot: Snapshot | None) -> Refusal | None:
        """Apply a request; returns the refusal if it is a NACK.

        Raises `InvalidField` for a request that breaks the protocol or its limits, and `ResourceExhausted`
        when too many of its names do not exist.
        """
        type_url = request.type_url
        if type_url not in TYPES:
            raise InvalidField("type_url", f"must be one of {', '.join(TYPES)}")
        if self.node is None:
            self._introduce(request)
        names = _names(request)
        watch = self.watches.get(type_url)
        if watch is None:
            watch = _first(type_url, names)
            watch.unknown_bytes = self._unknown_bytes(type_url, names, snapshot)
            self.watches[type_url] = watch
            return None
        refusal = None
        nonce = request.response_nonce
        if nonce and watch.nonce:
            if nonce != watch.nonce:
                return None
            refusal = _answered(watch, request)
        if names != watch.subscription.names:
            watch.unknown_bytes = self._unknown_bytes(type_url, names, snapshot)
            _subscribe(watch, names, snapshot)
        return refusal

    def due(self, snapshot: Snapshot) -> Response | None:
        """The next response to send, or None; it is recorded as sent."""
        for type_url in TYPES:
            watch = self.watches.get(type_url)
            if watch is not None and (watch.number != snapshot.number or watch.fresh or not watch.version):
                response = _next(watch, snapshot)
                if response is not None:
                    return response
        return None

    def is_due(self, snapshot: Snapshot) -> bool:
        """Whether there may be something to send."""
        return any(
            watch.number != snapshot.number and watch.version != snapshot.version(watch.subscription)
            for watch in self.watches.values()
        )

    def _unknown_bytes(self, type_url: str, names: frozenset[str], snapshot: Snapshot | None) -> int:
        """What those of `names` take that do not exist; raises `ResourceExhausted` when it is too much."""
        unknown = names if snapshot is None else snapshot.unknown(type_url, names)
        taken = sum(map(getsizeof, unknown)) + _SLOT_BYTES * len(unknown)
        others = sum(watch.unknown_bytes for key, watch in self.watches.items() if key != type_url)
        if taken + others > MAX_UNKNOWN_BYTES:
            raise ResourceExhausted("the client asks for too many names that do not exist", "QUOTA_EXCEEDED")
        return taken

    def _introduce(self, request: DiscoveryRequest) -> None:
        if not request.HasField("node"):
            raise InvalidField("node", "is required in the first request of a stream")
        # Serialised: a part of the request would keep all of it in memory.
        node = request.node
        self.node = core_pb2.Node(
            id=node.id[:MAX_NAME_LENGTH],
            cluster=node.cluster[:MAX_NAME_LENGTH],
            user_agent_name=node.user_agent_name[:MAX_NAME_LENGTH],
            user_agent_version=node.user_agent_version[:MAX_NAME_LENGTH],
        ).SerializeToString()
        self.node_id = node.id[:MAX_NAME_LENGTH]


def _names(request: DiscoveryRequest) -> frozenset[str]:
    if len(request.resource_names) > MAX_NAMES:
        raise InvalidField("resource_names", f"must have at most {MAX_NAMES:,} entries")
    names = frozenset(request.resource_names)
    if names and max(map(len, names)) > MAX_NAME_LENGTH:
        raise InvalidField("resource_names", f"must have at most {MAX_NAME_LENGTH} characters each")
    return names


def _first(type_url: str, names: frozenset[str]) -> Watch:
    # Nothing named in the first request means all, for those types that allow it.
    everything = type_url in WHOLE and (not names or "*" in names)
    subscription = Subscription.of(type_url, None if everything else names)
    return Watch(subscription, _NOTHING if everything else names)


def _subscribe(watch: Watch, names: frozenset[str], snapshot: Snapshot | None) -> None:
    before, type_url = watch.subscription, watch.subscription.type_url
    if before.names is None and (not names or "*" in names):
        return
    watch.subscription = Subscription.of(type_url, names)
    added = names if before.names is None else names - before.names
    if added:
        watch.fresh = (watch.fresh | added) & names
        watch.version = ""
    else:
        watch.fresh &= names
        if watch.version and snapshot is not None and watch.number == snapshot.number:
            watch.version = snapshot.version(watch.subscription)


def _answered(watch: Watch, request: DiscoveryRequest) -> Refusal | None:
    """Record the ACK or NACK of the last response."""
    watch.answered = True
    if not request.HasField("error_detail"):
        if request.version_info == watch.sent_version:  # else it names the one before: the refusal stands
            watch.acknowledged, watch.refusal = watch.sent_version, None
        return None
    if watch.refusal is not None:
        return None  # a repeated NACK
    type_url, reason = watch.subscription.type_url, request.error_detail.message[:_MAX_REASON_LENGTH]
    watch.refusal = Refusal(type_url, watch.sent_version, reason, time.time())
    NACKS.labels(short_name(type_url)).inc()
    return watch.refusal


def _next(watch: Watch, snapshot: Snapshot) -> Response | None:
    subscription = watch.subscription
    version = snapshot.version(subscription)
    if subscription.type_url in WHOLE:
        names = _NOTHING if version == watch.version else snapshot.names(subscription)
        needed = version != watch.version and subscription.names != _NOTHING
    else:
        names = snapshot.changed(subscription, watch.number) | (watch.fresh & snapshot.names(subscription))
        needed = bool(names)
    watch.number, watch.version, watch.fresh = snapshot.number, version, _NOTHING
    if not needed:
        return None
    response = snapshot.response(subscription, names)
    watch.nonce, watch.sent_version, watch.refusal = response.nonce, response.version, None
    watch.answered = False
    PUSHES.labels(short_name(subscription.type_url)).inc()
    return response


def short_name(type_url: str) -> str:
    """The name of a type without its package, such as Cluster."""
    return type_url.rpartition(".")[2]
