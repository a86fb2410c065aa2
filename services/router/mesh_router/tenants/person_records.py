"""What accounts keep of a person in records, as an export shows it."""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg
from asyncpg.pgproto.pgproto import UUID
from google.protobuf.message import DecodeError

from mesh_core import ids, validation
from mesh_core.database.requests import RecordKind
from mesh_core.ids import Prefix
from sessionmesh.v1.tenant_pb2 import PersonRecord


def kept_of(row: asyncpg.Record) -> PersonRecord | None:
    """A row of `account_record`; None for what says nothing of a person, and for what cannot be read."""
    field = _FIELDS.get(row["kind"])
    if field is None:
        return None
    kept = PersonRecord(
        account_id=ids.encode(Prefix.ACCOUNT, row["account"]), time=validation.to_timestamp(row["time"])
    )
    if row["kind"] in (RecordKind.GROUP_MEMBER, RecordKind.GROUP_JOIN_REQUEST):
        kept.group = row["key"]
    elif row["kind"] == RecordKind.POLL_VOTE:
        kept.poll_id = ids.encode(Prefix.MESSAGE, UUID(row["key"]))
    shown = getattr(kept, field)
    shown.SetInParent()
    try:
        shown.MergeFromString(row["value"])
    except DecodeError:  # it stops no export
        return None
    if row["kind"] == RecordKind.CONTACT:
        shown.person.address = row["key"]
    return kept


_FIELDS: Mapping[int, str] = {
    RecordKind.CONTACT: "contact",
    RecordKind.GROUP_MEMBER: "member",
    RecordKind.GROUP_JOIN_REQUEST: "join_request",
    RecordKind.POLL_VOTE: "vote",
    RecordKind.CALL: "call",
}
