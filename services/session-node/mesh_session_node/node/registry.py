"""The shards that this node owns, and the sessions that run here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import Prefix, encode
from mesh_session_node.account.session import Session

logger = structlog.get_logger(__name__)


class Registry:
    """The sessions that run here, by account id, and the tenures of their shards.

    `on_close` is called with every session that is closed.
    """

    def __init__(self, on_close: Callable[[Session], None]) -> None:
        self.sessions: dict[str, Session] = {}
        self.epochs: dict[int, int] = {}
        """Shard -> epoch, also while its accounts are being loaded."""
        self.loading: dict[int, asyncio.Future[None]] = {}
        """Shards whose accounts are being loaded, with what is done when they are."""
        self._by_shard: dict[int, set[Session]] = {}
        self._on_close = on_close

    def running(self, account: UUID) -> Session | None:
        """The account's session, if it runs here."""
        return self.sessions.get(encode(Prefix.ACCOUNT, account))

    def in_shard(self, shard: int) -> Collection[Session]:
        """The sessions of a shard."""
        return self._by_shard.get(shard, ())

    def add(self, session: Session) -> None:
        """A session runs here from now on."""
        self.sessions[session.id] = session
        self._by_shard.setdefault(session.context.ref.shard, set()).add(session)

    def remove(self, session: Session) -> None:
        """Close a session and forget it: also one that fails to close, whose fence is its end."""
        try:
            session.close()
        except Exception:  # it is forgotten all the same
            logger.exception("a session was not closed well", account_id=session.id)
        del self.sessions[session.id]
        shard = session.context.ref.shard
        remaining = self._by_shard[shard]
        remaining.discard(session)
        if not remaining:
            del self._by_shard[shard]
        self._on_close(session)

    def leave(self, shards: Iterable[int]) -> None:
        """These shards are not this node's any more: close all their sessions."""
        for shard in shards:
            self.epochs.pop(shard, None)
            for session in [*self.in_shard(shard)]:
                self.remove(session)
