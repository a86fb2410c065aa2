"""Calls to an account: an event when one comes, and one when it has ended.

What is known of a call is a record, so that it is told once, however often the network or this API says that
it came or ended. Where the settings ask for it, a call is rejected before it is told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from hashlib import blake2b

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.requests import Method, RecordKind
from mesh_core.errors import MeshError
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.events import timestamp
from mesh_session_node.context.locks import Locks
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.content import is_person
from mesh_session_node.drivers.interface.notices import CallEnded, CallOffered
from mesh_session_node.inbound.by_settings import acting, done
from mesh_session_node.journal import AccountRecord, Outcome, Row
from mesh_session_node.store.records import RecordStore, StoredRecord
from sessionmesh.v1 import call_pb2 as pb
from sessionmesh.v1.content_pb2 import Content, TextContent
from sessionmesh.v1.message_pb2 import PRIORITY_LOW, SendMessageRequest

logger = structlog.get_logger(__name__)

MAX_ANSWERED = 30
"""Callers whom one account writes to in an hour: who calls from many numbers does not use up its limits."""


class Calls:
    """Implements `NoticeTaker`; one for all accounts."""

    def __init__(self, records: RecordStore) -> None:
        self._records = records
        self._turns = Locks[tuple[UUID, str]]()

    def turn(self, session: SessionContext, notice: CallOffered | CallEnded) -> asyncio.Lock:
        return self.turn_of(session, notice.call_id)

    def turn_of(self, session: SessionContext, call_id: str) -> asyncio.Lock:
        """Held by whoever changes what is known of a call, until it is stored."""
        return self._turns.of((session.ref.uuid, call_id))

    async def take(self, session: SessionContext, notice: CallOffered | CallEnded) -> Sequence[Row]:
        found = await self._find(session, notice.call_id)
        if isinstance(notice, CallEnded):
            call = pb.CallEvent() if found is None else pb.CallEvent.FromString(found.value)
            if found is None:
                _describe(session, notice, call)
            came = notice.time if found is None else found.time
            return _ended(session, call, came, notice.time, notice.cause)
        if found is not None:
            return ()
        call = pb.CallEvent(video=notice.video, start_time=timestamp(notice.time))
        _describe(session, notice, call)
        told = session.events.of("call.offered", notice.time, call=call)
        if not await _reject(session, notice):
            return [_record(call, notice.time), told]
        call.rejected_by_settings = True
        return [told, *_ended(session, call, notice.time, _now(), pb.CALL_END_CAUSE_REJECTED)]

    async def rejected(self, session: SessionContext, call_id: str) -> Sequence[Row]:
        """RejectCall, with the turn of a call, has rejected it; what comes of it. Raises as the database."""
        found = await self._find(session, call_id)
        if found is None:
            return ()  # it was never told
        call = pb.CallEvent.FromString(found.value)
        return _ended(session, call, found.time, _now(), pb.CALL_END_CAUSE_REJECTED)

    async def _find(self, session: SessionContext, call_id: str) -> StoredRecord | None:
        records = await self._records.of_key(session.ref.uuid, RecordKind.CALL, call_id)
        return records[0] if records else None


async def _reject(session: SessionContext, offered: CallOffered) -> bool:
    """Reject a call that still rings, where the settings ask for that, and write to who calls; whether it is
    rejected.
    """
    link = acting(session, Capability.REJECT_CALL)
    if not session.settings.given.reject_calls or link is None or _now() - offered.time > _RINGS_MICROS:
        return False
    try:
        async with asyncio.timeout(_REJECT_SECONDS):
            rejected = await done(session, "reject_calls", link.reject_call(offered.call_id, offered.caller))
    except TimeoutError:
        return False
    if rejected and not offered.group and is_person(offered.caller):
        _answer(session, offered.caller)
    return rejected


def _answer(session: SessionContext, caller: str) -> None:
    """Write to somebody whose call was rejected, after all else that waits; once an hour, however often they
    call, and to so many people an hour, however many call.
    """
    text = session.settings.given.reject_calls_text
    if not text or "text" not in session.driver.content_kinds:
        return
    hour = int(time.time() // 3600)
    if session.callers_answered[0] != hour:
        session.callers_answered = hour, frozenset()
    whom = blake2b(caller.encode(), digest_size=16).hexdigest()
    answered = session.callers_answered[1] | {whom}
    if len(answered) > MAX_ANSWERED:
        return
    session.callers_answered = hour, answered
    content = Content(text=TextContent(body=text))
    message = SendMessageRequest(recipient=caller, content=content, priority=PRIORITY_LOW)
    try:
        written = session.say(message, Method.ANSWER_CALL, f"{whom}/{hour}")
    except MeshError as error:  # nothing more can wait, or nobody is paired
        logger.warning("a caller was not written to", account_id=session.id, reason=error.reason)
        return
    written.add_done_callback(_ignore)


def _ignore(written: asyncio.Future[Outcome]) -> None:
    if not written.cancelled():
        written.exception()


def _now() -> int:
    return time.time_ns() // 1000


def _describe(session: SessionContext, notice: CallOffered | CallEnded, call: pb.CallEvent) -> None:
    call.call_id, call.group = notice.call_id, notice.group
    call.caller.CopyFrom(session.people.learn(notice.caller, notice.identity))


def _ended(
    session: SessionContext,
    call: pb.CallEvent,
    came: int,
    micros: int,
    cause: pb.CallEndCause.ValueType,
) -> Sequence[Row]:
    if call.HasField("end_time"):
        return ()
    call.end_time.CopyFrom(timestamp(micros))
    call.end_cause = cause
    return [_record(call, came), session.events.of("call.ended", micros, call=call)]


def _record(call: pb.CallEvent, came: int) -> AccountRecord:
    value = call.SerializeToString(deterministic=True)
    return AccountRecord(RecordKind.CALL, call.call_id, call.caller.address, value, came)


_RINGS_MICROS = 60_000_000
"""How long a call rings at most: one that came before is over, whatever the network will say."""
_REJECT_SECONDS = 5.0
