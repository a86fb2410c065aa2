"""The client: calls that move on to another endpoint when one fails, logins, and single watch streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Protocol, Self, TypedDict, TypeVar

import grpc
from grpc.aio import AioRpcError, Channel, Metadata

from mesh_core.errors import MeshError
from mesh_core.etcd.errors import UNANSWERED, EtcdUnavailable, LeaseLost, from_rpc
from mesh_core.etcd.member import CHANNEL_OPTIONS, LeaseBeat, boottime, channel_credentials
from mesh_core.etcd.ops import prefix_end
from mesh_core.settings import EtcdSettings
from mesh_wire.etcd import admin_pb2, admin_pb2_grpc, kv_pb2, rpc_pb2_grpc
from mesh_wire.etcd import rpc_pb2 as wire

Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)


class Etcd:
    """A client of one etcd cluster.

    It stays with one endpoint until that fails to answer within `timeout` seconds, then takes the next.
    Reads and lease calls are tried on every endpoint. A write is sent once: after `EtcdUnavailable` its
    outcome is unknown. Every call may raise `EtcdUnavailable` or `EtcdRefused`.
    """

    def __init__(self, settings: EtcdSettings, *, timeout: float = 1.0) -> None:
        credentials = channel_credentials(settings)
        self.settings = settings
        self._timeout = timeout
        self._endpoints = [_Endpoint(_open(address, credentials)) for address in settings.endpoints]
        self._current = 0
        self._token = ""
        self._login = asyncio.Lock()

    @classmethod
    def at(cls, *endpoints: str) -> Self:
        """A plain-text client without a user."""
        return cls(EtcdSettings(endpoints=endpoints))

    async def close(self) -> None:
        await asyncio.gather(*[endpoint.channel.close() for endpoint in self._endpoints])

    async def put(self, key: bytes, value: bytes, lease: int = 0) -> int:
        """Writes `key`; returns the store's revision. Raises `LeaseLost` when `lease` is gone."""
        request = wire.PutRequest(key=key, value=value, lease=lease)
        answer: wire.PutResponse = await self._write(
            lambda stubs, limits: stubs.kv.Put(request, **limits), lease
        )
        return answer.header.revision

    async def get(self, key: bytes) -> kv_pb2.KeyValue | None:
        answer = await self.range(key)
        return answer.kvs[0] if answer.kvs else None

    async def range(self, key: bytes, end: bytes = b"") -> wire.RangeResponse:
        """The keys from `key` up to `end`, without it (empty: `key` alone); a linearizable read."""
        request = wire.RangeRequest(key=key, range_end=end)
        return await self._everywhere(lambda stubs, limits: stubs.kv.Range(request, **limits))

    async def prefix(self, prefix: bytes) -> wire.RangeResponse:
        """All keys that begin with `prefix`."""
        return await self.range(prefix, prefix_end(prefix))

    async def delete(self, key: bytes) -> int:
        """Deletes `key`; returns how many there were."""
        request = wire.DeleteRangeRequest(key=key)
        answer: wire.DeleteRangeResponse = await self._write(
            lambda stubs, limits: stubs.kv.DeleteRange(request, **limits)
        )
        return answer.deleted

    async def txn(
        self,
        compare: Sequence[wire.Compare],
        success: Sequence[wire.RequestOp],
        failure: Sequence[wire.RequestOp] = (),
        *,
        lease: int = 0,
    ) -> wire.TxnResponse:
        """Does `success` when all of `compare` hold, else `failure`; `mesh_core.etcd.ops` makes the parts.

        `lease` is the one that the puts name: `LeaseLost` tells that it is gone.
        """
        request = wire.TxnRequest(compare=compare, success=success, failure=failure)
        return await self._write(lambda stubs, limits: stubs.kv.Txn(request, **limits), lease)

    async def grant(self, ttl: int) -> LeaseBeat:
        """A new lease of `ttl` seconds (etcd may give more)."""
        request = wire.LeaseGrantRequest(TTL=ttl)

        async def attempt(stubs: _Endpoint, limits: _Limits) -> LeaseBeat:
            sent = boottime()
            answer = await stubs.lease.LeaseGrant(request, **limits)
            return LeaseBeat(answer.ID, answer.TTL, sent)

        return await self._everywhere(attempt)

    async def keep_alive(self, lease: int) -> LeaseBeat:
        """Renews the lease once. Raises `LeaseLost` when etcd says it is gone."""
        request = wire.LeaseKeepAliveRequest(ID=lease)

        async def attempt(stubs: _Endpoint, limits: _Limits) -> LeaseBeat:
            sent = boottime()
            call = stubs.lease.LeaseKeepAlive(**limits)
            try:
                await call.write(request)
                answer = await call.read()
            except asyncio.InvalidStateError:  # what writing to a dead stream raises
                raise EtcdUnavailable("the lease stream broke") from None
            finally:
                call.cancel()
            if not isinstance(answer, wire.LeaseKeepAliveResponse):
                raise EtcdUnavailable("the lease stream ended without an answer")
            return LeaseBeat(lease, answer.TTL, sent)

        beat = await self._everywhere(attempt)
        if beat.ttl <= 0:
            raise LeaseLost(lease)
        return beat

    async def revoke(self, lease: int) -> None:
        """Ends the lease and deletes its keys; one that is gone already is fine."""
        request = wire.LeaseRevokeRequest(ID=lease)
        try:
            await self._everywhere(lambda stubs, limits: stubs.lease.LeaseRevoke(request, **limits))
        except LeaseLost:
            return

    async def watch_once(self, request: wire.WatchCreateRequest) -> AsyncGenerator[wire.WatchResponse, None]:
        """Yields the answers to one watch request until etcd cancels it; raises when the stream fails.

        `mesh_core.etcd.follow` goes on after both.
        """
        number = self._current
        try:
            metadata = await self._metadata()
            # A member cut off from its leader would keep the stream open and silent; asked so, it ends it.
            metadata.add("hasleader", "true")
            call = self._endpoints[number].watch.Watch(metadata=metadata)
            try:
                await call.write(wire.WatchRequest(create_request=request))
                while isinstance(answer := await call.read(), wire.WatchResponse):
                    yield answer
                    if answer.canceled:
                        self._token = ""  # an expired login shows this way, among other causes
                        return
            finally:
                call.cancel()
        except AioRpcError as error:
            self._leave(number)
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                self._token = ""
            raise from_rpc(error) from error
        except asyncio.InvalidStateError:  # what writing to a dead stream raises
            self._leave(number)
        raise EtcdUnavailable("the watch stream ended")

    def _leave(self, endpoint: int) -> None:
        """Go on with another endpoint, unless another call has left `endpoint` already."""
        if self._current == endpoint:
            self._current = (endpoint + 1) % len(self._endpoints)

    async def _everywhere(self, attempt: _Attempt[Answer]) -> Answer:
        """Tries each endpoint once, beginning with the present one; for calls that may be repeated."""
        for _ in self._endpoints[1:]:
            try:
                return await self._once(attempt)
            except EtcdUnavailable:
                continue
        return await self._once(attempt)

    async def _write(self, attempt: _Attempt[Answer], lease: int = 0) -> Answer:
        try:
            return await self._once(attempt)
        except LeaseLost:
            raise LeaseLost(lease) from None

    async def _once(self, attempt: _Attempt[Answer]) -> Answer:
        """One attempt on the present endpoint; an expired login is renewed (the call was not executed)."""
        number = self._current
        try:
            return await self._attempt(attempt, number)
        except AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED or not self.settings.username:
                raise self._failure(error, number) from error
        self._token = ""
        try:
            return await self._attempt(attempt, number)
        except AioRpcError as error:
            raise self._failure(error, number) from error

    async def _attempt(self, attempt: _Attempt[Answer], number: int) -> Answer:
        metadata = await self._metadata()
        try:
            return await attempt(self._endpoints[number], {"timeout": self._timeout, "metadata": metadata})
        except EtcdUnavailable:
            self._leave(number)
            raise

    def _failure(self, error: AioRpcError, number: int) -> MeshError:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return LeaseLost(0)  # of what the calls made here name, only a lease can be missing
        if error.code() in UNANSWERED:
            self._leave(number)
        return from_rpc(error)

    async def _metadata(self) -> Metadata:
        if not self.settings.username:
            return Metadata()
        async with self._login:
            if not self._token:
                self._token = await self._authenticate()
        return Metadata(("token", self._token))

    async def _authenticate(self) -> str:
        request = admin_pb2.AuthenticateRequest(name=self.settings.username, password=self.settings.password)
        stubs = self._endpoints[self._current]
        return (await stubs.auth.Authenticate(request, timeout=self._timeout)).token


class _Endpoint:
    """The stubs of one member."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.kv = rpc_pb2_grpc.KVStub(channel)
        self.lease = rpc_pb2_grpc.LeaseStub(channel)
        self.watch = rpc_pb2_grpc.WatchStub(channel)
        self.auth = admin_pb2_grpc.AuthStub(channel)


class _Limits(TypedDict):
    timeout: float
    metadata: Metadata


class _Attempt(Protocol[Answer_co]):
    def __call__(self, stubs: _Endpoint, limits: _Limits, /) -> Awaitable[Answer_co]: ...


def _open(address: str, credentials: grpc.ChannelCredentials | None) -> Channel:
    if credentials is None:
        return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
