"""What members of groups confirm of one account's messages, as rows and events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mesh_core.ids import new_uuid
from mesh_session_node.context.context import SessionContext
from mesh_session_node.drivers.interface.content import Identity, person_of
from mesh_session_node.journal import Event, ReceiptPart, Row, StatusChange
from mesh_session_node.outbound.member_events import MAX_MEMBERS, MAX_SHOWN, ShownMembers
from mesh_session_node.outbound.member_receipts import TOLD
from mesh_session_node.outbound.outgoing import Outgoing
from mesh_session_node.outbound.statuses import count_receipt, status_event, trace_receipt
from sessionmesh.internal.v1 import receipt_record_pb2
from sessionmesh.v1 import message_pb2 as pb

_NEWS_AT_ONCE = 256
"""Of people, in one row set."""


class Confirmations:
    """Of one account. Remembers how events show the members that were named."""

    __slots__ = ("_context", "_shown")

    def __init__(self, context: SessionContext) -> None:
        self._context = context
        self._shown: ShownMembers | None = None

    def learn(self, identities: Mapping[str, Identity]) -> None:
        """The network told who members are."""
        context, people = self._context, self._context.people
        for member, identity in identities.items():
            if TOLD.is_new(context.ref.uuid, member, identity):
                people.learn(member, identity)
                if len(people.news) >= _NEWS_AT_ONCE:
                    context.host.journal.post(context.ref, *people.news)
                    people.stored()
            self._show(member, identity)
        if identities and (news := people.news):
            context.host.journal.post(context.ref, *news)
            people.stored()

    def _show(self, member: str, identity: Identity) -> None:
        who = self._context.people.find(member)
        if not who.display_name:  # it may be one of more members than are remembered
            who = person_of(member, identity)
        self._remembered().show(member, who)

    def _remembered(self) -> ShownMembers:
        """How members are shown; of too many nothing is remembered."""
        if self._shown is None or len(self._shown) >= MAX_SHOWN:
            self._shown = ShownMembers()
        return self._shown

    def store(self, out: Outgoing, held: Mapping[int, Mapping[str, int]]) -> None:
        """Store and tell, by status and member, since when each has a message."""
        context, rows = self._context, list[Row]()
        for number, members in held.items():
            status = pb.MessageStatus.ValueType(number)
            trace_receipt(out, pb.MessageStatus.Name(status))
            part = receipt_record_pb2.ReceiptPart(
                status=status, members=members.keys(), times=members.values()
            )
            rows.append(ReceiptPart(out.uuid, new_uuid(), part.SerializeToString()))
            rows += self._events_of(out, status, members)
            if status > out.receipted:  # else the message says so already, since another member
                out.receipted = status
                count_receipt(out, status)
                rows.append(StatusChange(out.uuid, status, min(members.values())))
        if rows:
            context.host.journal.post(context.ref, *rows)

    def _events_of(
        self, out: Outgoing, status: pb.MessageStatus.ValueType, members: Mapping[str, int]
    ) -> Iterator[Event]:
        shown, people = self._remembered(), self._context.people
        for member in shown.unknown(members):
            shown.show(member, people.find(member))
        names, times = [*members], [*members.values()]
        for start, pieces in zip(range(0, len(names), MAX_MEMBERS), shown.serialised(members), strict=True):
            end = start + MAX_MEMBERS
            only = people.find(names[start]) if len(names[start:end]) == 1 else None
            yield status_event(self._context, out, status, max(times[start:end]), member=only, members=pieces)
