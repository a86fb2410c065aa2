"""Clients' queries: who answers which, and what is answered where there is nothing else to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mesh_simulator.accounts.account import Account
from sessionmesh.simnet.v1 import wire_pb2 as wire

Handlers = Mapping[str, Callable[[Account, wire.Query], wire.Answer]]
"""Who answers a query, by its kind."""


class Queries:
    """Answers queries, by the handlers of all families."""

    def __init__(self, *families: Handlers) -> None:
        self._handlers = {kind: handler for family in families for kind, handler in family.items()}

    def answer(self, account: Account, query: wire.Query) -> wire.Answer:
        """The answer to `query`, or an error."""
        handler = self._handlers.get(query.WhichOneof("kind") or "")
        if handler is None:
            return error(query, wire.QUERY_ERROR_REASON_MALFORMED, "unknown query")
        return handler(account, query)


def done(query: wire.Query, refusal: wire.QueryErrorReason.ValueType | None) -> wire.Answer:
    """The answer to a query that changes something: that it is done, or why not."""
    if refusal is None:
        return wire.Answer(id=query.id, done=wire.Done())
    words = wire.QueryErrorReason.Name(refusal).removeprefix("QUERY_ERROR_REASON_").replace("_", " ").lower()
    return error(query, refusal, words)


def error(query: wire.Query, reason: wire.QueryErrorReason.ValueType, message: str) -> wire.Answer:
    """The answer to a query that is refused; `message` is for people."""
    return wire.Answer(id=query.id, error=wire.QueryError(reason=reason, message=message))
