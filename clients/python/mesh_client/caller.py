"""How every call is made: over which transport, with what metadata, and how often."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message
from grpc import StatusCode
from grpc.aio import AioRpcError

from mesh_client.errors import Cancelled, DeadlineExceeded, MeshCallError, call_error
from mesh_client.methods import Method
from mesh_client.outgoing import DEFAULT_TIMEOUT, Metadata, call_metadata, checked_timeout, prepared
from mesh_client.retries import Attempts, RetryBudget, is_broken
from mesh_client.transports import Transports


@dataclass(frozen=True, slots=True)
class Caller:
    """What the calls of one client have in common."""

    transports: Transports
    api_key: str
    budget: RetryBudget = field(default_factory=RetryBudget)

    def metadata(self, request: object, more: Metadata | None = None) -> list[tuple[str, str | bytes]]:
        """Credentials, the account where the request names one, the current trace, and `more`."""
        return call_metadata(self.api_key, request, more)

    def attempts(self, timeout: float | None, *, repeatable: bool) -> Attempts:
        """The attempts of one call that starts now."""
        seconds = checked_timeout(timeout)
        deadline = asyncio.get_running_loop().time() + (DEFAULT_TIMEOUT if seconds is None else seconds)
        return Attempts(self.budget, deadline, repeatable=repeatable)

    async def callable(self, method: Method, attempts: Attempts) -> Any:
        """gRPC's callable of the method, on the transport of this attempt. Raises `MeshCallError`."""
        channel = await self.transports.channel(method, attempts.number, attempts.remaining())
        return channel.callable(method)

    async def call(
        self, method: Method, request: Message, timeout: float | None, metadata: Metadata | None
    ) -> Any:
        """A unary call, repeated where that is safe and helps. Raises `MeshCallError`."""
        sent = prepared(method, request)
        pairs = self.metadata(request, metadata)
        attempts = self.attempts(timeout, repeatable=method.repeatable)
        while True:
            try:
                function = await self.callable(method, attempts)
                response = await function(sent, timeout=attempts.remaining(), metadata=pairs)
            except (AioRpcError, MeshCallError, asyncio.CancelledError) as error:
                failure = failure_of(error)
                if isinstance(failure, DeadlineExceeded) and not failure.reason:
                    failure.message = f"{method.name} had no answer within {timeout or DEFAULT_TIMEOUT:g} s"
                await self.retry(attempts, failure)
            else:
                self.budget.earn()
                return response

    async def retry(self, attempts: Attempts, failure: MeshCallError) -> None:
        """Returns when it is time for the next attempt; raises `failure` when there is none."""
        if is_broken(failure) and attempts.number == _DIAGNOSE_AFTER:
            better, lasting = await self.transports.diagnosed(failure)
            if lasting:
                raise better from None
        if await attempts.pause(failure):
            return
        if is_broken(failure):
            failure, _ = await self.transports.diagnosed(failure)
        raise failure from None


def failure_of(error: AioRpcError | MeshCallError | asyncio.CancelledError) -> MeshCallError:
    """The failure of a call; raises the cancellation again when it is the caller's own.

    grpc.aio also cancels whoever waits for a call that the other side, or closing the channel, has cancelled.
    """
    if isinstance(error, MeshCallError):
        return error
    if isinstance(error, AioRpcError):
        return call_error(error)
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise error
    return Cancelled(StatusCode.CANCELLED, "the call was cancelled from the other side, or the client closed")


_DIAGNOSE_AFTER = 1
"""How many connection failures of a call pass before their cause is looked for: most pass by themselves."""
