"""What all calls about one account have in common: finding its session, and acting once per request id."""

from __future__ import annotations

from typing import Any

from grpc.aio import ServicerContext

from mesh_core import validation
from mesh_core.database.requests import Method, payload_digest
from mesh_core.ids import new_uuid
from mesh_session_node.account.session import Session
from mesh_session_node.journal import Action, Outcome, Refused, Row, unwrap
from mesh_session_node.node.lookup import AccountLookup

Context = ServicerContext[Any, Any]


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

    async def first_time(self, session: Session, method: Method, request_id: str) -> bool:
        """Record a request id; False when it was recorded before, so that the call must not act again. Raises
        `InvalidField`, `NotOwner`.
        """
        validation.request_id(request_id)
        result = new_uuid()
        outcome = await self.write(session, Action(method, request_id, payload_digest(b""), result))
        return unwrap(outcome, result) == result

    async def write(self, session: Session, *rows: Row) -> Outcome:
        """Store rows of the account. Raises `NotOwner` when the fence refuses them."""
        context = session.context
        outcome = await context.host.journal.write(context.ref, *rows)
        if isinstance(outcome, Refused):
            raise self.lookup.refused(session)
        return outcome
