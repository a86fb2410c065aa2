"""What a session does by itself, as its account's settings say: it shows as online, and reads what comes; and
which messages it does not take. With what is watched it does so again after each login.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import cast

import structlog

from mesh_core.addresses import kind_of
from mesh_session_node.context.context import SessionContext
from mesh_session_node.drivers.interface.capabilities import Acting, Capability
from mesh_session_node.drivers.interface.content import STATUS, Incoming
from mesh_session_node.drivers.interface.driver import Link
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, Refused

logger = structlog.get_logger(__name__)

MAX_UNREAD = 1_000
"""Messages of one account that may wait to be reported as read; what is beyond stays unread."""
MAX_REPORTED = 100
"""Messages that are reported as read at once."""


def acting(session: SessionContext, capability: Capability) -> Acting | None:
    """The session's link, if it can do that."""
    if session.link is None or session.closed or capability not in session.driver.capabilities:
        return None
    return cast(Acting, session.link)


async def done(session: SessionContext, what: str, act: Awaitable[None]) -> bool:
    """Have the network do something that nobody waits for; whether it has."""
    try:
        await act
    except (Refused, ConnectionEnded, TimeoutError) as error:
        detail = str(error) or type(error).__name__
        logger.warning(
            "what the settings ask for was not done", account_id=session.id, what=what, detail=detail
        )
        return False
    return True


def is_ignored(session: SessionContext, chat: str) -> bool:
    """Whether the account takes no messages of this chat."""
    settings = session.settings.given
    if chat == STATUS:
        return settings.ignore_status
    kind = kind_of(chat)
    return (kind == "group" and settings.ignore_groups) or (kind == "channel" and settings.ignore_channels)


def logged_in(session: SessionContext) -> None:
    """The session is connected: what holds as long as a connection stands is done anew."""
    watched = session.watches is not None and session.watches.present(session.host.loop.time())
    if watched or session.settings.given.show_online:
        session.host.spawn(f"presence of {session.id}", _resume(session, session.link))


def show_online(session: SessionContext) -> None:
    """The settings say otherwise now whether the account shows as online."""
    if (link := acting(session, Capability.PRESENCE)) is not None:
        online = session.settings.given.show_online
        shown = done(session, "show_online", link.show_online(online=online))
        session.host.spawn(f"presence of {session.id}", _ended(shown))


async def _resume(session: SessionContext, link: Link | None) -> None:
    if session.settings.given.show_online and (can := acting(session, Capability.PRESENCE)) is not None:
        await done(session, "show_online", can.show_online(online=True))
    watches = session.watches
    for watch in [] if watches is None else watches.present(session.host.loop.time()):
        can_watch = acting(session, Capability.WATCH_PRESENCE)
        if can_watch is None or session.link is not link:
            return
        await done(session, "watch", can_watch.watch_presence(watch.address))


async def _ended(work: Awaitable[bool]) -> None:
    await work


class AutoRead:
    """Reports messages as read that came to accounts which ask for that; one for all accounts. What comes
    together is reported together.
    """

    def __init__(self) -> None:
        self._unread: dict[SessionContext, dict[tuple[str, str], list[str]]] = {}

    def stored(self, session: SessionContext, came: Incoming) -> None:
        """A message was stored that came to the account."""
        if not session.settings.given.auto_read or came.from_account or came.history:
            return
        if came.chat == STATUS or kind_of(came.chat) == "channel" or came.content.HasField("reaction"):
            return
        unread = self._unread.get(session)
        if unread is None:
            unread = self._unread[session] = {}
            session.host.spawn(f"read for {session.id}", self._report(session, unread))
        if sum(map(len, unread.values())) < MAX_UNREAD:
            unread.setdefault((came.chat, came.sender), []).append(came.network_id)

    async def _report(self, session: SessionContext, unread: dict[tuple[str, str], list[str]]) -> None:
        try:
            await asyncio.sleep(_TOGETHER_SECONDS)
            while unread:
                (chat, sender), ids = next(iter(unread.items()))
                del unread[chat, sender]
                for at in range(0, len(ids), MAX_REPORTED):
                    if (link := acting(session, Capability.MARK_READ)) is None:
                        return
                    part = ids[at : at + MAX_REPORTED]
                    await done(session, "auto_read", link.mark_read(chat, sender, part, played=False))
        finally:
            del self._unread[session]


_TOGETHER_SECONDS = 0.1
