"""Votes in polls: what everybody chose last, and what that adds up to, stored with the poll."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mesh_core.database.requests import RecordKind
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.message_rows import content_of_row, message_of_row, ref_of_row
from mesh_session_node.drivers.interface.content import names_of
from mesh_session_node.inbound.changes import ContentChanges
from mesh_session_node.journal import AccountRecord, ContentUpdate, Event, Row
from mesh_session_node.outbound.references import ReferenceLookup
from mesh_session_node.store.records import RecordStore
from sessionmesh.v1 import content_pb2 as pb
from sessionmesh.v1.common_pb2 import Person


@dataclass(frozen=True, slots=True)
class Counted:
    """What is stored of a vote beside its message, and the event that tells of it."""

    rows: Sequence[Row]
    event: Event


class Votes:
    """Counts votes; one for all accounts. Whoever does so holds the poll's `ContentChanges.turn` until the
    rows are stored.
    """

    def __init__(self, lookup: ReferenceLookup, changes: ContentChanges, records: RecordStore) -> None:
        self._lookup = lookup
        self._changes = changes
        self._records = records

    async def count(
        self, session: SessionContext, poll_id: str, voter: Person, answers: Sequence[str], micros: int
    ) -> Counted | None:
        """Somebody votes in the poll that the network knows by this id. None for a poll that is not stored,
        or no longer, and for a vote that is older than the voter's last one.
        """
        row = await self._lookup.by_network_id(session, poll_id)
        if row is None or not row["content"]:
            return None
        message = message_of_row(session.id, session.people, row)
        if not message.content.HasField("poll"):
            return None
        key, member = row["id"].hex, names_of(voter)[0] if names_of(voter) else voter.address
        names = {voter.address, *names_of(voter), *await self._lookup.names(session, voter.address)}
        chosen, before = {}, []
        for record in await self._records.of_key(session.ref.uuid, RecordKind.POLL_VOTE, key):
            if record.member not in names:
                chosen[record.member] = pb.PollVoteContent.FromString(record.value).answers
            elif record.time > micros:
                return None
            elif record.member != member:  # they were known by another name when they voted
                before.append(AccountRecord(RecordKind.POLL_VOTE, key, record.member, None, micros))
        poll = message.content.poll
        vote = pb.PollVoteContent(answers=[answer for answer in answers if answer in poll.answers])
        chosen[member] = vote.answers
        del poll.totals[:]
        for answer in poll.answers:
            poll.totals.add(answer=answer, votes=sum(answer in each for each in chosen.values()))
        return Counted(
            [
                *before,
                AccountRecord(RecordKind.POLL_VOTE, key, member, vote.SerializeToString(), micros),
                ContentUpdate(row["id"], content_of_row(row, message)),
            ],
            session.events.poll(ref_of_row(row), voter, vote.answers, poll.totals, micros, message.labels),
        )

    async def count_own(
        self, session: SessionContext, poll_id: str, answers: Sequence[str], micros: int
    ) -> None:
        """The network has a vote of the account's."""
        async with self._changes.turn(session, poll_id):
            counted = await self.count(session, poll_id, own_person(session), answers, micros)
            if counted is not None and not session.closed:
                await session.host.journal.write(session.ref, *counted.rows, counted.event)


def own_person(session: SessionContext) -> Person:
    """The account itself."""
    own = session.own
    person = Person(phone=own.phone, user_id=own.user_id, hidden_id=own.hidden_id)
    person.address = f"phone:{own.phone}" if own.phone else f"user:{own.user_id}"
    return person
