"""The client: one attribute per service, and short forms of what is done most."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from mesh_client import content
from mesh_client.batch import send_batch
from mesh_client.bootstrap import PROCESS
from mesh_client.bulk import BulkResult, BulkSender
from mesh_client.caller import Caller
from mesh_client.channels import Tls
from mesh_client.downloads import Download, download_to_file
from mesh_client.errors import InvalidArgument
from mesh_client.services import Services
from mesh_client.sessions import pair_request, pairing, watching
from mesh_client.subscriptions import Subscription, subscribe_request
from mesh_client.target import TransportChoice, check_api_key, check_transport, parse_target
from mesh_client.transports import Destination, TransportName, Transports
from mesh_client.uploads import Progress, source_of, upload
from sessionmesh.v1 import account_pb2, media_pb2, message_pb2, session_pb2


def connect(
    target: str | Sequence[str], api_key: str, *, tls: Tls | None = None, transport: TransportChoice = "auto"
) -> Client:
    """A client of the mesh at `target` that speaks for `api_key`: for `async with`.

    `target` is a router's host:port, several of them ("a:7600,b:7600" or a sequence), `dns:///name:port` for
    all the addresses of a name, or `xds:///sessionmesh`, for which GRPC_XDS_BOOTSTRAP must be set.
    `transport` says how account-scoped calls go: "xds" straight to the account's owner, "plain" through a
    router, "auto" over xDS where the routers serve it.

    Connects when it is first called. Raises `InvalidArgument` for what can be no target or key.
    """
    parsed = parse_target(target)
    check_transport(transport, parsed)
    check_api_key(api_key)
    if parsed.xds and not PROCESS.present:
        raise InvalidArgument.of("target", f"{parsed.xds} needs GRPC_XDS_BOOTSTRAP: see mesh xds-bootstrap")
    return Client(Destination(parsed, tls, transport), api_key)


class Client(Services):
    """Calls the mesh for one API key.

    Each service is an attribute whose methods take the request and, as keywords, `timeout` in seconds and
    more `metadata`: `await client.accounts.GetAccount(request)`. Streaming methods return a `Stream` at once.
    A required `request_id` that is empty is filled in on the way. Failures are `MeshCallError`.
    """

    def __init__(self, destination: Destination, api_key: str) -> None:
        self._transports = Transports(destination)
        self._caller = Caller(self._transports, api_key)
        super().__init__(self._caller)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; calls on them end with `Cancelled`."""
        await self._transports.close()

    @property
    def transport(self) -> TransportName:
        """The transport that calls about an account take now: "xds" or "plain"."""
        return self._transports.current

    async def settle(self, timeout: float = 5.0) -> TransportName:
        """Waits at most `timeout` until it is known whether there is xDS. Calls need not wait for this."""
        return await self._transports.settle(timeout)

    async def get_account(self, account_id: str) -> account_pb2.Account:
        """The account."""
        response = await self.accounts.GetAccount(account_pb2.GetAccountRequest(account_id=account_id))
        return response.account

    async def send_text(
        self,
        account_id: str,
        to: str,
        text: str,
        *,
        reply_to: content.Referable | None = None,
        request_id: str = "",
        wait_for: message_pb2.WaitFor.ValueType = message_pb2.WAIT_FOR_QUEUED,
        timeout: float | None = None,
    ) -> message_pb2.Message:
        """Send `text` to an address, such as `phone:+4915112345678` or `group:...`; the message as accepted.

        A bare phone number in E.164 is an address, too. `reply_to` is the message that it answers.
        """
        request = content.text_message(
            account_id, to, text, reply_to=reply_to, request_id=request_id, wait_for=wait_for
        )
        return (await self.messages.SendMessage(request, timeout=timeout)).message

    async def send_many(
        self, requests: Iterable[message_pb2.SendMessageRequest], *, timeout: float | None = None
    ) -> list[BulkResult]:
        """Send up to 1,000 messages in one call; each one's result, in their order. For more, use `bulk`.

        Messages whose account is moving are sent again, under the same request ids.
        """
        return await send_batch(self._caller, requests, timeout)

    async def upload(
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
        """Store a file, by its path, or bytes; the media once it is READY.

        Only administrators give `tenant_id`; a key that is limited to accounts needs the `account_id` that it
        is for. `options` say more of how it is stored. `progress(done, total)` is called as bytes are sent.
        A broken upload begins again, within `timeout`. What the bytes do not say of the type, the name does.
        """
        found = source_of(source)
        header = media_pb2.UploadHeader(
            request_id=request_id, tenant_id=tenant_id, account_id=account_id, options=options
        )
        header.options.file_name = file_name or header.options.file_name or found.name
        header.options.mime_type = mime_type or header.options.mime_type
        return await upload(self._caller, found, header, timeout, progress)

    async def download(
        self, media_id: str, *, progress: Progress | None = None, timeout: float | None = 300.0
    ) -> bytes:
        """The media's stored bytes, checked against its sha256."""
        chunks = Download(self._caller, media_id, timeout, progress).chunks()
        return b"".join([chunk async for chunk in chunks])

    async def download_to(
        self,
        media_id: str,
        path: str | os.PathLike[str],
        *,
        progress: Progress | None = None,
        timeout: float | None = 300.0,
    ) -> media_pb2.Media:
        """Put the stored bytes into a file, which is written only when all of it is there and right.

        `progress(done, total)` is called as bytes arrive. A broken download goes on where it was.
        """
        return await download_to_file(Download(self._caller, media_id, timeout, progress), Path(path))

    def download_chunks(self, media_id: str, *, timeout: float | None = None) -> AsyncGenerator[bytes, None]:
        """The stored bytes, chunk by chunk; `DataLoss` at the end of what does not have the right sha256."""
        return Download(self._caller, media_id, timeout, None).chunks()

    def bulk(self, *, max_in_flight: int = 5000, timeout: float = 60.0) -> BulkSender:
        """Sends many messages fast: `async with client.bulk() as bulk`, then `bulk.send` or `bulk.results`.

        A message has its result within `timeout` seconds, whatever it takes: reconnects, retries.
        """
        return BulkSender(self._caller, max_in_flight=max_in_flight, timeout=timeout)

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
    ) -> Subscription:
        """The tenant's events after `cursor`, or from the oldest kept, or from now on: iterate over it.

        With the name of a `subscription`, which has filters of its own, from where it stands: `acknowledge`
        what is done, once a minute at least.

        Filters are combined; an empty one lets everything through. `event_types` are types or families, such
        as `message.*`. A connection that says nothing for `silence` seconds, of which the mesh sends a
        heartbeat every 15, is replaced.
        """
        request = subscribe_request(
            cursor=cursor,
            subscription=subscription,
            from_oldest=from_oldest,
            event_types=event_types,
            account_ids=account_ids,
            labels=labels,
            tenant_id=tenant_id,
        )
        return Subscription(self.events, request, silence)

    def pair(
        self, account_id: str, *, phone: str = "", patience: float | None = None
    ) -> AsyncGenerator[session_pb2.PairResponse, None]:
        """Pair the account by QR, or by a code typed on `phone`: the steps to show, each once.

        What the steps `passkey` and `confirm` ask is answered by `sessions.AnswerPairing`. The attempt ends
        after `patience` seconds (3 minutes unless said otherwise, at most 10), and goes on when the
        connection breaks.
        """
        return pairing(self.sessions, pair_request(account_id, phone, patience))

    def watch_session(self, account_id: str) -> AsyncGenerator[session_pb2.Session, None]:
        """The account's session now and after each change, also when its owner changes."""
        return watching(self.sessions, account_id)
