"""Leases over blocking calls, for a thread: a stalled event loop must not delay them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import grpc

from mesh_core.etcd.errors import UNANSWERED, EtcdUnavailable, LeaseLost, from_rpc
from mesh_core.etcd.member import CHANNEL_OPTIONS, LeaseBeat, boottime, channel_credentials
from mesh_core.settings import EtcdSettings
from mesh_wire.etcd import admin_pb2, admin_pb2_grpc, rpc_pb2_grpc
from mesh_wire.etcd import rpc_pb2 as wire

Answer = TypeVar("Answer")


class BlockingLeases:
    """Grants and renews leases, in one thread.

    It stays with one member until that fails to answer within `timeout` seconds; then each other is tried.
    Calls raise `EtcdUnavailable` or `EtcdRefused`.
    """

    def __init__(self, settings: EtcdSettings, *, timeout: float) -> None:
        credentials = channel_credentials(settings)
        self._settings = settings
        self._timeout = timeout
        self._members = [_Member(address, credentials) for address in settings.endpoints]
        self._current = 0
        self._token = ""

    def grant(self, ttl: int) -> LeaseBeat:
        """A new lease of `ttl` seconds (etcd may give more)."""

        def attempt(member: _Member) -> LeaseBeat:
            sent = boottime()
            answer = member.lease.LeaseGrant(
                wire.LeaseGrantRequest(TTL=ttl), timeout=self._timeout, metadata=self._metadata()
            )
            return LeaseBeat(answer.ID, answer.TTL, sent)

        return self._everywhere(attempt)

    def keep_alive(self, lease: int) -> LeaseBeat:
        """Renews the lease once. Raises `LeaseLost` when etcd says it is gone."""

        def attempt(member: _Member) -> LeaseBeat:
            sent = boottime()
            request = wire.LeaseKeepAliveRequest(ID=lease)
            call = member.lease.LeaseKeepAlive(
                iter((request,)), timeout=self._timeout, metadata=self._metadata()
            )
            answer = next(call, None)
            call.cancel()
            if answer is None:
                raise EtcdUnavailable("the lease stream ended without an answer")
            return LeaseBeat(lease, answer.TTL, sent)

        beat = self._everywhere(attempt)
        if beat.ttl <= 0:
            raise LeaseLost(lease)
        return beat

    def close(self) -> None:
        """Closes the connections; a call that another thread waits in fails."""
        for member in self._members:
            member.channel.close()

    def _everywhere(self, attempt: Callable[[_Member], Answer]) -> Answer:
        failure: Exception = EtcdUnavailable("no endpoints")
        for _ in self._members:
            try:
                return self._with_login(attempt)
            except grpc.RpcError as error:
                failure = from_rpc(error)
                if error.code() not in UNANSWERED:
                    break
            except EtcdUnavailable as error:
                failure = error
            self._current = (self._current + 1) % len(self._members)
        raise failure

    def _with_login(self, attempt: Callable[[_Member], Answer]) -> Answer:
        """Makes the call, and once more after an expired login, which etcd refused without executing it."""
        member = self._members[self._current]
        self._log_in(member)
        try:
            return attempt(member)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED or not self._settings.username:
                raise
        self._token = ""
        self._log_in(member)
        return attempt(member)

    def _log_in(self, member: _Member) -> None:
        if self._settings.username and not self._token:
            request = admin_pb2.AuthenticateRequest(
                name=self._settings.username, password=self._settings.password
            )
            self._token = member.auth.Authenticate(request, timeout=self._timeout).token

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("token", self._token),) if self._token else ()


class _Member:
    """The stubs of one member."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None) -> None:
        if credentials is None:
            self.channel = grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
        else:
            self.channel = grpc.secure_channel(address, credentials, options=CHANNEL_OPTIONS)
        self.lease = rpc_pb2_grpc.LeaseStub(self.channel)
        self.auth = admin_pb2_grpc.AuthStub(self.channel)
