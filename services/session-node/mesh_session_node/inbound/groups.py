"""The groups and communities of accounts: read and changed as their records have them, whoever changes them.

What changes one group comes one after the other, each from what the one before has stored. A group's members
are records of their own, one for each, so that one who comes costs one row however many there are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.requests import RecordKind
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.locks import Locks
from mesh_session_node.drivers.interface.content import is_one_of, names_of, person_of
from mesh_session_node.drivers.interface.groups import GroupInfo, Named
from mesh_session_node.inbound.fitting_groups import fit_group
from mesh_session_node.inbound.group_records import (
    KINDS,
    changed_fields,
    community_of,
    group_of,
    member_of,
    member_rows,
    no_member,
    record_of,
    rows_of,
)
from mesh_session_node.journal import AccountRecord, Row
from mesh_session_node.store.records import RecordStore
from sessionmesh.internal.v1.group_record_pb2 import GroupRecord
from sessionmesh.v1 import community_pb2, group_pb2
from sessionmesh.v1.common_pb2 import Person


@dataclass(frozen=True, slots=True)
class Changed:
    """A group as it is now, and what stores it, with the events that tell of it."""

    record: GroupRecord
    rows: Sequence[Row]


class GroupBook:
    """One for all accounts. Reading raises what `mesh_core.database.UNAVAILABLE` names."""

    def __init__(self, records: RecordStore) -> None:
        self.records = records
        self._turns = Locks[tuple[UUID, str]]()

    def turn(self, session: SessionContext, group: str) -> asyncio.Lock:
        """Held by whoever changes a group, until it is stored."""
        return self._turns.of((session.ref.uuid, group))

    async def record(self, session: SessionContext, group: str) -> GroupRecord | None:
        """The record of a group or community; None where there is none."""
        value = await self.records.of_any_kind(session.ref.uuid, KINDS, group)
        return None if value is None else GroupRecord.FromString(value)

    async def members(self, session: SessionContext, group: str) -> dict[str, group_pb2.GroupMember]:
        """Everybody who is stored as in a group, by address."""
        stored = await self.records.of_key(session.ref.uuid, RecordKind.GROUP_MEMBER, group)
        return {one.member: group_pb2.GroupMember.FromString(one.value) for one in stored}

    async def find(
        self, session: SessionContext, group: str, people: Sequence[Named]
    ) -> dict[str, group_pb2.GroupMember]:
        """Those of some people who are stored as in a group, by the address that they are stored under: by
        whichever of the names that the network tells.
        """
        names = {name for one in people for name in told_names(one)}
        kind = RecordKind.GROUP_MEMBER
        found = await self.records.of_members(session.ref.uuid, kind, group, names)
        return {one.member: group_pb2.GroupMember.FromString(one.value) for one in found}

    async def told(
        self,
        session: SessionContext,
        info: GroupInfo,
        actor: Named | None = None,
        *,
        event: bool = True,
        picture: str = "",
    ) -> Changed:
        """The network tells of a group that the account is in as it is now, with its members or without. It
        holds the group's turn. Without `event` nobody is told: the account was in it before. `picture` is
        the media that its picture is, where it was set from here.
        """
        info = fit_group(info)
        micros = time.time_ns() // 1000
        before = await self.record(session, info.address)
        record = record_of(info, before)
        if picture and record.group.picture_id:
            record.group.picture_media_id = picture
        rows: list[Row] = [*rows_of(record, before, micros)]
        if info.members is not None:
            known = {} if before is None else await self.members(session, info.address)
            told = {one.person.address: member_of(one) for one in info.members}
            rows += _member_rows(info.address, known, told, micros)
        came = before is None or not before.group.own_role
        if event and record.group.own_role and (came or changed_fields(before or record, record)):
            rows.append(changed_event(session, None if came else before, record, actor, micros))
        return Changed(record, rows)

    async def lost(
        self, session: SessionContext, before: GroupRecord, members: Iterable[str] | None = None
    ) -> Changed:
        """The account is no longer in a group: its members are forgotten. It holds the group's turn."""
        micros = time.time_ns() // 1000
        record = GroupRecord()
        record.CopyFrom(before)
        address = record.group.address
        record.group.own_role, record.members_known = group_pb2.GROUP_ROLE_UNSPECIFIED, False
        gone = (await self.members(session, address)) if members is None else members
        rows: list[Row] = [*rows_of(record, before, micros)]
        rows += [no_member(address, one, micros) for one in gone]
        for kind in (RecordKind.GROUP_JOIN_REQUEST, RecordKind.COMMUNITY_GROUP):
            left = await self.records.of_key(session.ref.uuid, kind, address)
            rows += [AccountRecord(kind, address, one.member, None, micros) for one in left]
        return Changed(record, rows)


def changed_event(
    session: SessionContext,
    before: GroupRecord | None,
    record: GroupRecord,
    actor: Named | None,
    micros: int,
) -> Row:
    """A group or community came (`before` None), or changed."""
    who = None if actor is None else seen(session, actor)
    if record.parent:
        of_community = community_pb2.CommunityEvent(community=community_of(record), actor=who)
        type_ = "community.joined" if before is None else "community.updated"
        return session.events.of(type_, micros, community=of_community)
    event = group_pb2.GroupEvent(group=group_of(record), actor=who)
    if before is not None:
        event.changed_fields.paths.extend(changed_fields(before, record))
    return session.events.of("group.joined" if before is None else "group.updated", micros, group=event)


def seen(session: SessionContext, named: Named) -> Person:
    """Somebody whom the network names, with all that is known of them."""
    return session.people.learn(named.address, named.identity)


def is_account(session: SessionContext, named: Named) -> bool:
    """Whether somebody is the account itself."""
    return is_one_of(session.own, named.address, named.identity)


def stored_as(named: Named, members: Collection[str]) -> str | None:
    """Which of these addresses of members is somebody's."""
    return next((name for name in told_names(named) if name in members), None)


def told_names(named: Named) -> list[str]:
    """The addresses that the network names somebody by."""
    return [*dict.fromkeys([named.address, *names_of(person_of(named.address, named.identity))])]


def _member_rows(
    group: str,
    known: dict[str, group_pb2.GroupMember],
    told: dict[str, group_pb2.GroupMember],
    micros: int,
) -> Iterable[Row]:
    """What makes those who are told the members, and nobody else."""
    for address, member in told.items():
        if known.get(address) != member:
            yield from member_rows(group, address, member, micros)
    for address in known.keys() - told.keys():
        yield no_member(group, address, micros)
