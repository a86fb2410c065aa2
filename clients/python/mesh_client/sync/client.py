"""The client that waits."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

import mesh_client.client as asynchronous
from mesh_client.bulk import BulkResult
from mesh_client.channels import Tls
from mesh_client.content import Referable
from mesh_client.subscriptions import Batch, Subscription
from mesh_client.sync.bulk import SyncBulkSender
from mesh_client.sync.loop import LoopThread
from mesh_client.sync.services import SyncServices
from mesh_client.target import TransportChoice
from mesh_client.transports import TransportName
from mesh_client.uploads import Progress
from sessionmesh.v1 import account_pb2, event_pb2, media_pb2, message_pb2, session_pb2


def connect(
    target: str | Sequence[str], api_key: str, *, tls: Tls | None = None, transport: TransportChoice = "auto"
) -> SyncClient:
    """As `mesh_client.connect`, for `with`."""
    return SyncClient(asynchronous.connect(target, api_key, tls=tls, transport=transport))


class SyncClient(SyncServices):
    """`Client` whose methods wait for their results; for any number of threads.

    Streams are iterated over with `for`. Ctrl-C cancels the call that it interrupts. The work is done by an
    event loop on a thread of its own, where callbacks such as `progress` run, too: they must be quick.
    """

    def __init__(self, client: asynchronous.Client) -> None:
        self._client = client
        self._thread = LoopThread()
        super().__init__(self._thread, client)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and end the thread; calls of other threads end with an error."""
        if self._thread.running:
            self._thread.run(self._client.close())
            self._thread.close()

    @property
    def transport(self) -> TransportName:
        """The transport that calls about an account take now: "xds" or "plain"."""
        return self._client.transport

    def settle(self, timeout: float = 5.0) -> TransportName:
        """Waits at most `timeout` until it is known whether there is xDS. Calls need not wait for this."""
        return self._thread.run(self._client.settle(timeout))

    def get_account(self, account_id: str) -> account_pb2.Account:
        """The account."""
        return self._thread.run(self._client.get_account(account_id))

    def send_text(
        self,
        account_id: str,
        to: str,
        text: str,
        *,
        reply_to: Referable | None = None,
        request_id: str = "",
        wait_for: message_pb2.WaitFor.ValueType = message_pb2.WAIT_FOR_QUEUED,
        timeout: float | None = None,
    ) -> message_pb2.Message:
        """Send `text` to an address, such as `phone:+4915112345678`; the message as accepted."""
        sending = self._client.send_text(
            account_id,
            to,
            text,
            reply_to=reply_to,
            request_id=request_id,
            wait_for=wait_for,
            timeout=timeout,
        )
        return self._thread.run(sending)

    def send_many(
        self, requests: Iterable[message_pb2.SendMessageRequest], *, timeout: float | None = None
    ) -> list[BulkResult]:
        """Send up to 1,000 messages in one call; each one's result, in their order. For more, use `bulk`."""
        return self._thread.run(self._client.send_many(requests, timeout=timeout))

    def upload(
        self,
        source: str | os.PathLike[str] | bytes,
        *,
        file_name: str = "",
        mime_type: str = "",
        tenant_id: str = "",
        account_id: str = "",
        options: media_pb2.StorageOptions | None = None,
        request_id: str = "",
        progress: Progress | None = None,
        timeout: float = 300.0,
    ) -> media_pb2.Media:
        """Store a file, by its path, or bytes; the media once it is READY."""
        uploading = self._client.upload(
            source,
            file_name=file_name,
            mime_type=mime_type,
            tenant_id=tenant_id,
            account_id=account_id,
            options=options,
            request_id=request_id,
            progress=progress,
            timeout=timeout,
        )
        return self._thread.run(uploading)

    def download(
        self, media_id: str, *, progress: Progress | None = None, timeout: float | None = 300.0
    ) -> bytes:
        """The media's stored bytes, checked against its sha256."""
        return self._thread.run(self._client.download(media_id, progress=progress, timeout=timeout))

    def download_to(
        self,
        media_id: str,
        path: str | os.PathLike[str],
        *,
        progress: Progress | None = None,
        timeout: float | None = 300.0,
    ) -> media_pb2.Media:
        """Put the stored bytes into a file, which is written only when all of it is there and right."""
        return self._thread.run(self._client.download_to(media_id, path, progress=progress, timeout=timeout))

    def download_chunks(self, media_id: str, *, timeout: float | None = None) -> Iterator[bytes]:
        """The stored bytes, chunk by chunk; `DataLoss` at the end of what does not have the right sha256."""
        return self._thread.iterate(self._client.download_chunks(media_id, timeout=timeout))

    def bulk(self, *, max_in_flight: int = 5000, timeout: float = 60.0) -> SyncBulkSender:
        """Sends many messages fast: `with client.bulk() as bulk`, then `bulk.send` or `bulk.results`."""
        return SyncBulkSender(self._thread, self._client.bulk(max_in_flight=max_in_flight, timeout=timeout))

    def subscribe(
        self,
        *,
        cursor: str = "",
        subscription: str = "",
        from_oldest: bool = False,
        event_types: Iterable[str] = (),
        account_ids: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        tenant_id: str = "",
        silence: float = 40.0,
    ) -> SyncSubscription:
        """The tenant's events after `cursor`, or from the oldest kept, or from now on: iterate over it.

        Or those of a named `subscription`: `acknowledge` what is done.
        """
        followed = self._client.subscribe(
            cursor=cursor,
            subscription=subscription,
            from_oldest=from_oldest,
            event_types=event_types,
            account_ids=account_ids,
            labels=labels,
            tenant_id=tenant_id,
            silence=silence,
        )
        return SyncSubscription(self._thread, followed)

    def pair(
        self, account_id: str, *, phone: str = "", patience: float | None = None
    ) -> Iterator[session_pb2.PairResponse]:
        """Pair the account by QR, or by a code typed on `phone`: the steps to show, each once."""
        return self._thread.iterate(self._client.pair(account_id, phone=phone, patience=patience))

    def watch_session(self, account_id: str) -> Iterator[session_pb2.Session]:
        """The account's session now and after each change, also when its owner changes."""
        return self._thread.iterate(self._client.watch_session(account_id))


class SyncSubscription:
    """`Subscription` to iterate over; ends when the iterator is dropped or the client closed."""

    def __init__(self, thread: LoopThread, subscription: Subscription) -> None:
        self._thread = thread
        self._subscription = subscription

    @property
    def cursor(self) -> str:
        """The position after the event handed out last."""
        return self._subscription.cursor

    def __iter__(self) -> Iterator[event_pb2.Event]:
        return self._thread.iterate(aiter(self._subscription))

    def acknowledge(self) -> bool:
        """Every event that was handed out is done; False when they come again all the same."""
        return self._thread.run(self._subscription.acknowledge())

    def batches(self) -> Iterator[Batch]:
        """Events as they arrive together, to store the cursor once for all; empty ones while quiet."""
        return self._thread.iterate(self._subscription.batches())
