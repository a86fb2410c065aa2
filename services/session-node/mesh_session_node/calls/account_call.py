"""What all calls about one account have in common: finding its session, and acting once per request id."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from grpc.aio import ServicerContext

from mesh_core import validation
from mesh_core.database.requests import Method, payload_digest
from mesh_core.errors import Unavailable
from mesh_core.ids import new_uuid
from mesh_session_node.account.session import Session
from mesh_session_node.journal import Action, Outcome, Refused, Row, unwrap
from mesh_session_node.node.lookup import AccountLookup

Context = ServicerContext[Any, Any]
T = TypeVar("T")


class AccountCalls:
    """The steps of a call about an account."""

    def __init__(self, lookup: AccountLookup) -> None:
        self.lookup = lookup

    async def session(self, account_id: str, context: Context) -> Session:
        """The session that a unary call is about; raises as `AccountLookup.for_call` does."""
        return await self.lookup.for_call(context.invocation_metadata(), account_id)

    async def session_for_stream(self, account_id: str, context: Context) -> Session:
        """The same for a stream, which waits while the account changes hands."""
        return await self.lookup.for_stream(context, account_id)

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
        """Store rows of the account, however long it takes. Raises `NotOwner` when the fence refuses them."""
        context = session.context
        outcome = await context.host.journal.write(context.ref, *rows)
        if isinstance(outcome, Refused):
            raise self.lookup.refused(session)
        return outcome


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
