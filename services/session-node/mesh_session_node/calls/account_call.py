"""What all calls about one account have in common. In this order: find the session, whose account the caller
may see (`session`); check the request; act once per request id (`answered`), by what the driver can do
(`act`); store the answer, with what has changed and its events, under the fence (also `answered`).

The chassis has authorised the caller's scope before, and checked what the protos alone say of the request.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar, cast

from asyncpg.pgproto.pgproto import UUID
from google.protobuf.message import Message
from grpc.aio import ServicerContext

from mesh_core import validation
from mesh_core.database.requests import Method, payload_digest, request_digest
from mesh_core.errors import AlreadyExists, FailedPrecondition, ResourceExhausted, Unavailable
from mesh_core.ids import new_uuid
from mesh_core.telemetry import tracing
from mesh_session_node.account.session import Session
from mesh_session_node.calls import outcomes
from mesh_session_node.context.events import in_trace
from mesh_session_node.drivers.interface.capabilities import Acting, Capability
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded
from mesh_session_node.drivers.interface.outcomes import Refused as RefusedByNetwork
from mesh_session_node.journal import Action, Outcome, Refused, Row, unwrap
from mesh_session_node.node.lookup import AccountLookup
from mesh_session_node.outbound.limits import ActLimits
from mesh_session_node.store.records import RequestStore

Context = ServicerContext[Any, Any]
T = TypeVar("T")
MAX_ANSWERING = 100
"""Requests with ids of one account that are being answered: they go on when their callers give up."""
Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)


class AccountCalls:
    """The steps of a call about an account."""

    def __init__(self, lookup: AccountLookup, requests: RequestStore) -> None:
        self.lookup = lookup
        self._requests = requests
        self._answering: dict[tuple[UUID, Method, str], tuple[bytes, asyncio.Task[Any]]] = {}
        self._answering_of: Counter[UUID] = Counter()

    async def session(self, account_id: str, context: Context) -> Session:
        """The session that a unary call is about; raises as `AccountLookup.for_call` does."""
        return await self.lookup.for_call(context.invocation_metadata(), account_id)

    async def session_for_stream(self, account_id: str, context: Context) -> Session:
        """The same for a stream, which waits while the account changes hands."""
        return await self.lookup.for_stream(context, account_id)

    async def act(
        self,
        session: Session,
        capability: Capability,
        act: Callable[[Acting], Awaitable[T]],
        *,
        about: str = "",
    ) -> T:
        """Have the account's network do something; `about` names what, for errors.

        Raises `FailedPrecondition` UNSUPPORTED_BY_NETWORK, NOT_PAIRED or NOT_CONNECTED, `NotOwner`,
        `ResourceExhausted` RATE_LIMITED when the account did too much in a minute or an hour, what the
        network's refusal becomes (`outcomes`), and `Unavailable` BACKEND_UNAVAILABLE where nobody knows
        whether it is done.
        """
        context = session.context
        if capability not in context.driver.capabilities:
            raise outcomes.lacking(capability.value)
        self.check_runs(session)
        if not session.paired:
            raise FailedPrecondition("the account is not paired", "NOT_PAIRED")
        if context.link is None:
            raise FailedPrecondition("the session is not connected", "NOT_CONNECTED")
        if session.acts is None:
            settings = context.host.settings
            session.acts = ActLimits(settings.acts_per_minute, settings.acts_per_hour)
        session.acts.take(time.monotonic())
        try:
            return await act(cast(Acting, context.link))
        except RefusedByNetwork as refused:
            raise outcomes.error_of(refused, about or session.id) from None
        except (ConnectionEnded, TimeoutError) as error:
            raise Unavailable(
                f"the network has not answered: {error or 'in time'}", "BACKEND_UNAVAILABLE", retry_after=1.0
            ) from None

    def check_runs(self, session: Session) -> None:
        """Raise `NotOwner` unless the account still runs here."""
        shard = session.context.ref.shard
        self.lookup.check_owner(shard)
        if not session.permitted():
            raise self.lookup.not_owner(shard)

    async def answered(
        self,
        session: Session,
        method: Method,
        request: Request,
        answer: type[Answer],
        act: Callable[[], Awaitable[tuple[Answer, Sequence[Row]]]],
        *,
        turn: AbstractAsyncContextManager[object] | None = None,
    ) -> Answer:
        """Act, and store the answer with the rows that `act` returns beside it; or answer as the first
        request with this `request_id` was answered, in turn with others that hold `turn`. It goes on when its
        caller gives up, so that a repeat finds it. After a crash between the act and the commit a repeat acts
        again: acts set something, and may.

        Raises `InvalidField`, `AlreadyExists` REQUEST_ID_REUSED, `ResourceExhausted` RATE_LIMITED while
        `MAX_ANSWERING` others are being answered, `NotOwner` and what `act` raises, after which the request
        id is as new.
        """
        request_id = validation.request_id(request.request_id)  # type: ignore[attr-defined]  # all have one
        key, digest = (session.context.ref.uuid, method, request_id), request_digest(request)
        running = self._answering.get(key)
        if running is None:
            self._check_room(session)
            task = asyncio.create_task(
                self._answer(session, method, request_id, digest, answer, act, turn or nullcontext()),
                name=f"answer {method.name}",
            )
            running = self._answering[key] = digest, task
            self._answering_of[key[0]] += 1
            task.add_done_callback(partial(self._answering_ended, key))
        if running[0] != digest:
            raise _reused()
        done: Answer = await asyncio.shield(running[1])
        return done

    def _check_room(self, session: Session) -> None:
        if self._answering_of[session.context.ref.uuid] >= MAX_ANSWERING:
            raise ResourceExhausted(
                f"{MAX_ANSWERING} requests of the account are being answered",
                "RATE_LIMITED",
                quota="requests_at_once",
                retry_after=1.0,
            )

    def _answering_ended(self, key: tuple[UUID, Method, str], task: asyncio.Task[Any]) -> None:
        del self._answering[key]
        self._answering_of[key[0]] -= 1
        if not self._answering_of[key[0]]:
            del self._answering_of[key[0]]
        if not task.cancelled():
            task.exception()  # its caller may be gone

    async def _answer(
        self,
        session: Session,
        method: Method,
        request_id: str,
        digest: bytes,
        answer: type[Answer],
        act: Callable[[], Awaitable[tuple[Answer, Sequence[Row]]]],
        turn: AbstractAsyncContextManager[object],
    ) -> Answer:
        async with turn:
            first = await self._requests.answered(session.context.ref.uuid, method, request_id)
            if first is not None:
                if first.digest != digest:
                    raise _reused()
                return answer.FromString(first.answer)
            with tracing.span("mesh.node.act", attributes={"mesh.account.id": session.id}):
                response, rows = await act()
            traceparent = tracing.current_traceparent()
            result = new_uuid()
            action = Action(method, request_id, digest, result, answer=response.SerializeToString())
            traced = [in_trace(row, traceparent) for row in rows]
            unwrap(await in_time(self.write(session, action, *traced)), result)
            return response

    async def once(self, session: Session, method: Method, request_id: str, act: Callable[[], None]) -> None:
        """Record a request id, and act when it was not recorded before: also where the caller has given up
        meanwhile, since a repeat would not act. Raises `InvalidField`, `NotOwner`, what `act` raises, and
        `Unavailable` as `in_time` does.
        """
        validation.request_id(request_id)
        result = new_uuid()

        async def record() -> None:
            action = Action(method, request_id, payload_digest(b""), result)
            if unwrap(await self.write(session, action), result) == result:
                act()

        await in_time(record())

    async def write(self, session: Session, *rows: Row) -> Outcome:
        """Store rows of the account, with what was learnt of people, however long it takes. Raises `NotOwner`
        when the fence refuses them.
        """
        context = session.context
        stored = context.host.journal.write(context.ref, *rows, *context.people.news)
        context.people.stored()
        outcome = await stored
        if isinstance(outcome, Refused):
            raise self.lookup.refused(session)
        return outcome


def _reused() -> AlreadyExists:
    return AlreadyExists("the request_id was used before with another payload", "REQUEST_ID_REUSED")


async def in_time(stored: Awaitable[T], until: float | None = None) -> T:
    """Waits for the journal, until an instant of the loop's clock or as long as it takes a Postgres that
    answers. Raises `Unavailable` BACKEND_UNAVAILABLE: then it may yet be stored, which a repeat is told. What
    is awaited goes on when its caller gives up.
    """
    try:
        async with asyncio.timeout_at(patience() if until is None else until):
            return await asyncio.shield(stored)
    except TimeoutError:
        raise Unavailable("the database does not answer", "BACKEND_UNAVAILABLE", retry_after=1.0) from None


def patience() -> float:
    """Until when a call that begins to wait now waits for the journal."""
    return asyncio.get_running_loop().time() + _PATIENCE_SECONDS


_PATIENCE_SECONDS = 5.0
