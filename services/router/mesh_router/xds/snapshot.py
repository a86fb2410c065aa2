"""All resources at one moment; versions are hashes of the content.

A response is serialised once for all streams that need it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from weakref import WeakKeyDictionary, WeakValueDictionary

from google.protobuf.any_pb2 import Any

from mesh_router.xds.resources import CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE, Packed
from mesh_wire.xds.discovery_pb2 import DiscoveryResponse

TYPES = (CLUSTER_TYPE, ENDPOINT_TYPE, LISTENER_TYPE, ROUTE_TYPE)
"""In the order in which changes are sent: a resource comes before those that refer to it."""
WHOLE = frozenset({LISTENER_TYPE, CLUSTER_TYPE})
"""Types whose responses have all subscribed resources: what a response lacks does not exist."""


MAX_CACHED_BYTES = 16 * 1024 * 1024
"""Bytes of the responses that are cached; most clients share a few."""


class Subscription:
    """Resources of one type by name; `names=None`: all of them. Equal subscriptions are one object."""

    __slots__ = ("__weakref__", "names", "type_url")

    def __init__(self, type_url: str, names: frozenset[str] | None) -> None:
        self.type_url = type_url
        self.names = names

    @classmethod
    def of(cls, type_url: str, names: frozenset[str] | None) -> Subscription:
        """The subscription to these names."""
        found = _subscriptions.get((type_url, names))
        if found is None:
            found = _subscriptions[type_url, names] = cls(type_url, names)
        return found


@dataclass(frozen=True, slots=True)
class Response:
    """A serialised DiscoveryResponse with its nonce, which is the same on every stream, and its version."""

    payload: bytes
    nonce: str
    version: str


@dataclass(frozen=True, slots=True)
class _Resource:
    packed: Any
    version: str
    since: int
    """Number of the snapshot in which it last changed."""


class Snapshot:
    """The resources of every type; each snapshot's `number` is one higher than the one before."""

    def __init__(self, packed: Packed, before: Snapshot | None = None) -> None:
        number = 1 if before is None else before.number + 1
        self.number: int = number
        self._resources: dict[str, dict[str, _Resource]] = {}
        for type_url in TYPES:
            known = {} if before is None else before._resources[type_url]
            self._resources[type_url] = {
                name: _resource(resource, number, known.get(name))
                for name, resource in packed[type_url].items()
            }
        self._versions: WeakKeyDictionary[Subscription, str] = WeakKeyDictionary()
        self._responses: dict[tuple[str, frozenset[str], str], Response] = {}
        self._response_bytes = 0

    def unknown(self, type_url: str, names: frozenset[str]) -> frozenset[str]:
        """Those of `names` that no resource of the type has."""
        return names - self._resources[type_url].keys()

    def names(self, subscription: Subscription) -> frozenset[str]:
        """The names of the subscription that exist."""
        existing = self._resources[subscription.type_url].keys()
        return frozenset(existing if subscription.names is None else existing & subscription.names)

    def version(self, subscription: Subscription) -> str:
        """Hash of all that the subscription covers; equal in all routers that see the same endpoints."""
        version = self._versions.get(subscription)
        if version is None:
            resources = self._resources[subscription.type_url]
            covered = sorted(self.names(subscription))
            text = "\n".join(f"{name} {resources[name].version}" for name in covered)
            version = self._versions[subscription] = _hash(text.encode())
        return version

    def changed(self, subscription: Subscription, number: int) -> frozenset[str]:
        """Names of the subscription that changed or were added since the snapshot with this number."""
        resources = self._resources[subscription.type_url]
        return frozenset(name for name in self.names(subscription) if resources[name].since > number)

    def response(self, subscription: Subscription, names: frozenset[str]) -> Response:
        """The response with the resources of `names`, all of which must exist."""
        version = self.version(subscription)
        key = subscription.type_url, names, version
        response = self._responses.get(key)
        if response is None:
            resources = self._resources[subscription.type_url]
            nonce = f"{next(_nonces)}"
            message = DiscoveryResponse(
                version_info=version,
                resources=[resources[name].packed for name in sorted(names)],
                type_url=subscription.type_url,
                nonce=nonce,
            )
            response = Response(message.SerializeToString(), nonce, version)
            self._response_bytes += len(response.payload)
            if self._response_bytes > MAX_CACHED_BYTES:
                self._responses.clear()
                self._response_bytes = len(response.payload)
            self._responses[key] = response
        return response


def _resource(packed: Any, number: int, before: _Resource | None) -> _Resource:
    version = _hash(packed.value)
    if before is not None and before.version == version:
        return before
    return _Resource(packed, version, number)


def _hash(content: bytes) -> str:
    return blake2b(content, digest_size=8).hexdigest()


_nonces = count(1)
_subscriptions: WeakValueDictionary[tuple[str, frozenset[str] | None], Subscription] = WeakValueDictionary()
