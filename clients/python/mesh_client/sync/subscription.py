"""Following a tenant's events, without an event loop."""

from __future__ import annotations

from collections.abc import Iterator

from mesh_client.subscriptions import Batch, Subscription
from mesh_client.sync.loop import LoopThread
from sessionmesh.v1 import event_pb2


class SyncSubscription:
    """`Subscription` to iterate over; ends when the iterator is dropped or the client closed."""

    def __init__(self, thread: LoopThread, subscription: Subscription) -> None:
        self._thread = thread
        self._subscription = subscription

    @property
    def cursor(self) -> bytes:
        """The place behind the event handed out last."""
        return self._subscription.cursor

    def __iter__(self) -> Iterator[event_pb2.Event]:
        return self._thread.iterate(aiter(self._subscription))

    def batches(self) -> Iterator[Batch]:
        """Events as they arrive together, to store the cursor once for all; empty ones while quiet."""
        return self._thread.iterate(self._subscription.batches())
