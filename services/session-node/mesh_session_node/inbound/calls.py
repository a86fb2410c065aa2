"""Calls to an account: an event when one comes, and one when it has ended.

What is known of a call is a record, so that it is told once, however often the network or this API says that
it came or ended.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from mesh_core.database.requests import RecordKind
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.events import timestamp
from mesh_session_node.drivers.interface.notices import CallEnded, CallOffered
from mesh_session_node.journal import AccountRecord, Row
from mesh_session_node.store.records import RecordStore, StoredRecord
from sessionmesh.v1 import call_pb2 as pb


class Calls:
    """Implements `NoticeTaker`; one for all accounts."""

    def __init__(self, records: RecordStore) -> None:
        self._records = records

    async def take(self, session: SessionContext, notice: CallOffered | CallEnded) -> Sequence[Row]:
        found = await self._find(session, notice.call_id)
        if isinstance(notice, CallEnded):
            call = pb.CallEvent() if found is None else pb.CallEvent.FromString(found.value)
            if found is None:
                _describe(session, notice, call)
            return _ended(session, call, found, notice.time, notice.cause)
        if found is not None:
            return ()
        call = pb.CallEvent(video=notice.video, start_time=timestamp(notice.time))
        _describe(session, notice, call)
        return [_record(call, notice.time), session.events.of("call.offered", notice.time, call=call)]

    async def rejected(
        self, session: SessionContext, call_id: str, *, by_settings: bool = False
    ) -> Sequence[Row]:
        """The account has rejected a call; what comes of it. Raises as the database does."""
        found = await self._find(session, call_id)
        if found is None:
            return ()  # it was never told
        call = pb.CallEvent.FromString(found.value)
        call.rejected_by_settings = by_settings
        return _ended(session, call, found, time.time_ns() // 1000, pb.CALL_END_CAUSE_REJECTED)

    async def _find(self, session: SessionContext, call_id: str) -> StoredRecord | None:
        records = await self._records.of_key(session.ref.uuid, RecordKind.CALL, call_id)
        return records[0] if records else None


def _describe(session: SessionContext, notice: CallOffered | CallEnded, call: pb.CallEvent) -> None:
    call.call_id, call.group = notice.call_id, notice.group
    call.caller.CopyFrom(session.people.learn(notice.caller, notice.identity))


def _ended(
    session: SessionContext,
    call: pb.CallEvent,
    found: StoredRecord | None,
    micros: int,
    cause: pb.CallEndCause.ValueType,
) -> Sequence[Row]:
    if call.HasField("end_time"):
        return ()
    call.end_time.CopyFrom(timestamp(micros))
    call.end_cause = cause
    came = micros if found is None else found.time
    return [_record(call, came), session.events.of("call.ended", micros, call=call)]


def _record(call: pb.CallEvent, came: int) -> AccountRecord:
    value = call.SerializeToString(deterministic=True)
    return AccountRecord(RecordKind.CALL, call.call_id, call.caller.address, value, came)
