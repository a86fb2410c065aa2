"""Who is online, and who writes: events of the people whom somebody watches, and nothing of others.

What changes within a second is told as it is at the end of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext

import structlog

from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.events import timestamp
from mesh_session_node.context.presence import OF_A_PERSON_SECONDS, Watch
from mesh_session_node.drivers.interface.content import names_of, person_of
from mesh_session_node.drivers.interface.notices import PresenceShown, TypingShown
from mesh_session_node.journal import Event
from sessionmesh.v1 import message_pb2
from sessionmesh.v1 import presence_pb2 as pb

logger = structlog.get_logger(__name__)


class Presences:
    """Implements `NoticeTaker`; one for all accounts."""

    def turn(
        self, _session: SessionContext, _notice: PresenceShown | TypingShown
    ) -> AbstractAsyncContextManager[object]:
        return nullcontext()  # nothing of it is stored

    async def take(self, session: SessionContext, notice: PresenceShown | TypingShown) -> Sequence[Event]:
        if session.watches is None:
            return ()
        names = names_of(person_of(notice.person, notice.identity))
        watch = session.watches.of([notice.person, *names], session.host.loop.time())
        if watch is None:
            return ()
        watch.shown.person.CopyFrom(session.people.learn(notice.person, notice.identity))
        if isinstance(notice, PresenceShown):
            _show_presence(watch.shown, notice)
        else:
            _show_typing(watch.shown, notice)
        watch.heard.notify()
        return self._due(session, watch)

    def _due(self, session: SessionContext, watch: Watch) -> Sequence[Event]:
        """The event of how it is now, where there is to be one at once; else it comes later."""
        shown = watch.shown.SerializeToString(deterministic=True)
        watches = session.watches
        if watches is None or shown == watch.told:
            return ()
        now = session.host.loop.time()
        delay = watch.next_event - now
        if delay <= 0:
            delay = watches.wait(now)
        if delay > 0:
            if watch.timer is None:
                watch.timer = session.host.loop.call_later(delay, self._tell, session, watch)
            return ()
        watch.told, watch.next_event = shown, now + OF_A_PERSON_SECONDS
        told = pb.PresenceEvent(presence=watch.shown)
        return [session.events.of("presence.updated", time.time_ns() // 1000, presence=told)]

    def _tell(self, session: SessionContext, watch: Watch) -> None:
        watch.timer = None
        if not session.closed and watch.until > session.host.loop.time():
            for event in self._due(session, watch):
                session.host.journal.post(session.ref, event)


def _show_presence(shown: pb.Presence, notice: PresenceShown) -> None:
    shown.state = pb.PRESENCE_STATE_AVAILABLE if notice.online else pb.PRESENCE_STATE_UNAVAILABLE
    if not notice.online:
        shown.ClearField("typing")
        shown.ClearField("chat")
    if notice.last_seen is not None:
        shown.last_seen_time.CopyFrom(timestamp(notice.last_seen))
    elif notice.online:
        shown.ClearField("last_seen_time")


def _show_typing(shown: pb.Presence, notice: TypingShown) -> None:
    shown.typing, shown.chat = notice.state, notice.chat
    if notice.state != message_pb2.TYPING_STATE_PAUSED:  # nobody writes who is not there
        shown.state = pb.PRESENCE_STATE_AVAILABLE
