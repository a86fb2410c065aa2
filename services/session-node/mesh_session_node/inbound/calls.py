"""Calls to an account: an event when one comes, and one when it has ended."""

from __future__ import annotations

from collections.abc import Sequence

from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.events import timestamp
from mesh_session_node.drivers.interface.notices import CallEnded, CallOffered
from mesh_session_node.journal import Event
from sessionmesh.v1 import call_pb2 as pb


class Calls:
    """Implements `NoticeTaker`; one for all accounts."""

    async def take(self, session: SessionContext, notice: CallOffered | CallEnded) -> Sequence[Event]:
        if isinstance(notice, CallEnded):
            return [_ended(session, notice)]
        return [_offered(session, notice)]


def _offered(session: SessionContext, notice: CallOffered) -> Event:
    call = _call(session, notice)
    call.video = notice.video
    call.start_time.CopyFrom(timestamp(notice.time))
    return session.events.of("call.offered", notice.time, call=call)


def _ended(session: SessionContext, notice: CallEnded) -> Event:
    call = _call(session, notice)
    call.end_time.CopyFrom(timestamp(notice.time))
    call.end_cause = notice.cause
    return session.events.of("call.ended", notice.time, call=call)


def _call(session: SessionContext, notice: CallOffered | CallEnded) -> pb.CallEvent:
    """What both events say."""
    caller = session.people.learn(notice.caller, notice.identity)
    return pb.CallEvent(call_id=notice.call_id, caller=caller, group=notice.group)
