"""What is stored of groups that names one person: who is in them, who asks to join, who made them."""

from __future__ import annotations

from collections.abc import AsyncIterator

from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.pool import AnyConnection
from mesh_core.database.requests import RecordKind
from mesh_router.retention.persons import Identities
from sessionmesh.internal.v1.group_record_pb2 import GroupRecord
from sessionmesh.v1.group_pb2 import GroupMember, JoinRequest


async def forget(connection: AnyConnection, tenant: UUID, who: Identities) -> AsyncIterator[None]:
    """Deletes members and requests that are the person, under whichever name, and takes them out of what is
    stored of groups that they made; yields for each.
    """
    for row in await connection.fetch(_NAMING, tenant, [*_PEOPLE, *_GROUPS], who.marks()):
        kind = RecordKind(row["kind"])
        if kind in _PEOPLE:
            if who.named_in(_PEOPLE[kind].FromString(row["value"])):
                await connection.execute(_DELETE, row["account"], kind, row["key"], row["member"])
                yield
            continue
        record = GroupRecord.FromString(row["value"])
        if record.group.HasField("creator") and who.is_one(record.group.creator):
            record.group.ClearField("creator")
            bare = record.SerializeToString()
            await connection.execute(_CHANGE, row["account"], kind, row["key"], bare, row["value"])
            yield


_PEOPLE: dict[RecordKind, type[GroupMember | JoinRequest]] = {
    RecordKind.GROUP_MEMBER: GroupMember,
    RecordKind.GROUP_JOIN_REQUEST: JoinRequest,
}
_GROUPS = (RecordKind.GROUP, RecordKind.GROUP_LEFT, RecordKind.COMMUNITY)
_NAMING = """SELECT account, kind, key, member, value FROM account_record
  WHERE account IN (SELECT id FROM account WHERE tenant = $1) AND kind = ANY ($2::smallint[])
  AND EXISTS (SELECT FROM unnest($3::bytea[]) AS mark WHERE position(mark IN value) > 0)"""
_DELETE = "DELETE FROM account_record WHERE account = $1 AND kind = $2 AND key = $3 AND member = $4"
# One that its owner changes at this moment stays as the owner has it
_CHANGE = """UPDATE account_record SET value = $4
  WHERE account = $1 AND kind = $2 AND key = $3 AND member = '' AND value = $5"""
