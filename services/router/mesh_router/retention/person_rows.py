"""Finds the rows that name a person: read page by page, since nothing is indexed by who it is about.

Postgres looks for the marks of the person's addresses in the stored bytes, so that only a few rows are read
and parsed here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
from asyncpg.pgproto.pgproto import UUID
from google.protobuf.message import DecodeError

from mesh_core.database.partitions import stored_days
from mesh_core.database.pool import AnyConnection
from mesh_router.retention.persons import Identities
from sessionmesh.internal.v1.receipt_record_pb2 import ReceiptPart
from sessionmesh.v1 import common_pb2, event_pb2, message_pb2

Readable = asyncpg.Pool | AnyConnection
STEP = 100
"""Pages of a table that one statement reads."""
MOST_ROUNDS = 3
"""How often all rows are read to find more addresses of the person."""


@dataclass(frozen=True, slots=True)
class FoundMessage:
    """A stored message; `stored` is the request that it was sent with, or the message as the network brought
    it.
    """

    row: asyncpg.Record
    stored: message_pb2.SendMessageRequest | message_pb2.Message


@dataclass(frozen=True, slots=True)
class FoundEvent:
    """A stored event, and where it is: table and place in it."""

    table: str
    place: str
    row: asyncpg.Record
    event: event_pb2.Event


@dataclass(frozen=True, slots=True)
class FoundReceipt:
    """How far a person was with a message, and the part that it is stored in, where it is in one."""

    message: UUID
    member: str
    status: int
    time: datetime
    part: UUID | None = None


async def learn_all(database: Readable, tenant: UUID, who: Identities) -> None:
    """Finds the person's other addresses in all that names the known ones."""
    for _ in range(MOST_ROUNDS):
        before = len(who.addresses)
        for person in await people(database, tenant, who):
            who.learn_together(person)
        for chat in await chats(database, tenant, who):
            who.addresses |= {chat["chat"], chat["same_as"]}
        async for message in messages(database, tenant, who):
            who.learn(message.stored)
        async for found in events(database, tenant, who):
            who.learn(found.event)
        if len(who.addresses) == before:
            return


async def messages(database: Readable, tenant: UUID, who: Identities) -> AsyncIterator[FoundMessage]:
    """The tenant's messages in a chat with the person, from them, or naming them; oldest day first."""
    async for table, begin, end in _steps(database, "message"):
        addresses = sorted(who.addresses)
        for place in await database.fetch(
            _MESSAGES.format(table), begin, end, tenant, addresses, who.marks()
        ):
            row = await database.fetchrow(_MESSAGE, place["account"], place["id"])
            if row is None:
                continue
            stored = _stored(row)
            if row["chat"] in who.addresses or who.named_in(stored):
                yield FoundMessage(row, stored)


async def events(database: Readable, tenant: UUID, who: Identities) -> AsyncIterator[FoundEvent]:
    """The tenant's events that name the person; oldest day first."""
    async for table, begin, end in _steps(database, "event"):
        for found in await database.fetch(_EVENTS.format(table), begin, end, tenant, who.marks()):
            row = await database.fetchrow(_EVENT.format(table), found["place"], found["id"])
            if row is None:
                continue
            event = event_pb2.Event()
            _parse(event, row["body"])
            if who.named_in(event):
                yield FoundEvent(table, found["place"], row, event)


async def receipts(database: Readable, tenant: UUID, who: Identities) -> AsyncIterator[FoundReceipt]:
    """The person's receipts of messages to groups."""
    addresses = sorted(who.addresses)
    pages = await database.fetchval(_PAGES, "message_receipt")
    for page in range(0, pages, STEP):
        for row in await database.fetch(_RECEIPTS, f"({page},0)", f"({page + STEP},0)", tenant, addresses):
            yield FoundReceipt(row["message"], row["member"], row["status"], row["time"])
    pages = await database.fetchval(_PAGES, "message_receipt_part")
    for page in range(0, pages, STEP):
        for row in await database.fetch(_PARTS, f"({page},0)", f"({page + STEP},0)", tenant, who.marks()):
            part = ReceiptPart.FromString(row["receipts"])
            for member, micros in zip(part.members, part.times, strict=False):
                if member in who.addresses:
                    time = _EPOCH + timedelta(microseconds=micros)
                    yield FoundReceipt(row["message"], member, part.status, time, row["part"])


async def forget_receipt(database: Readable, receipt: FoundReceipt) -> None:
    """Deletes one receipt of a person."""
    if receipt.part is None:
        await database.execute(_FORGET_RECEIPT, receipt.message, receipt.member)
        return
    stored = await database.fetchval(_PART, receipt.message, receipt.part)
    if stored is None:
        return
    part = ReceiptPart.FromString(stored)
    left = [
        (member, micros)
        for member, micros in zip(part.members, part.times, strict=False)
        if member != receipt.member
    ]
    del part.members[:], part.times[:]
    part.members.extend(member for member, _ in left)
    part.times.extend(micros for _, micros in left)
    await database.execute(_CHANGE_PART, receipt.message, receipt.part, part.SerializeToString())


async def records(database: Readable, tenant: UUID, who: Identities) -> AsyncIterator[asyncpg.Record]:
    """What the tenant's accounts keep under one of the person's addresses: rows of `account_record`."""
    pages = await database.fetchval(_PAGES, "account_record")
    for page in range(0, pages, STEP):
        for row in await database.fetch(
            _RECORDS, f"({page},0)", f"({page + STEP},0)", tenant, sorted(who.addresses)
        ):
            yield row


async def people(database: Readable, tenant: UUID, who: Identities) -> list[common_pb2.Person]:
    """The person as the tenant's accounts know them, once for each."""
    rows = await database.fetch(_PEOPLE, tenant, sorted(who.addresses))
    return [common_pb2.Person(**row) for row in rows]


async def chats(database: Readable, tenant: UUID, who: Identities) -> list[asyncpg.Record]:
    """The addresses of chats with the person that are one chat: `chat` and `same_as`. They are known longer
    than why they belong together.
    """
    return await database.fetch(_CHATS, tenant, sorted(who.addresses))


async def forget(database: Readable, tenant: UUID, who: Identities) -> None:
    """Deletes what is stored of who the person is."""
    await database.execute(_FORGET, tenant, sorted(who.addresses))


async def _steps(database: Readable, table: str) -> AsyncIterator[tuple[str, str, str]]:
    """The days of a table in slices: the day's own table, and the range of its places."""
    for day in await stored_days(database, table):
        name = f"{table}_{day:%Y%m%d}"
        pages = await database.fetchval(_PAGES, name) or 0  # null: it was dropped meanwhile
        for page in range(0, pages, STEP):
            yield name, f"({page},0)", f"({page + STEP},0)"


def _stored(row: asyncpg.Record) -> message_pb2.SendMessageRequest | message_pb2.Message:
    stored: message_pb2.SendMessageRequest | message_pb2.Message = (
        message_pb2.SendMessageRequest()
        if row["origin"] == message_pb2.MESSAGE_ORIGIN_API
        else message_pb2.Message()
    )
    _parse(stored, row["content"])
    return stored


def _parse(
    into: event_pb2.Event | message_pb2.SendMessageRequest | message_pb2.Message, stored: bytes
) -> None:
    """What cannot be parsed names nobody; it stops no search."""
    try:
        into.ParseFromString(stored)
    except DecodeError:
        into.Clear()


_PAGES = "SELECT pg_relation_size(to_regclass($1)) / current_setting('block_size')::int"
_MESSAGES = """SELECT m.account, m.id FROM {} m JOIN account a ON a.id = m.account
  WHERE m.ctid >= $1::text::tid AND m.ctid < $2::text::tid AND a.tenant = $3
    AND (m.chat = ANY ($4::text[]) OR EXISTS (
      SELECT FROM unnest($5::bytea[]) AS mark WHERE position(mark IN m.content) > 0)) ORDER BY m.id"""
_MESSAGE = "SELECT * FROM message WHERE account = $1 AND id = $2"
_EVENTS = """SELECT ctid::text AS place, id FROM {}
  WHERE ctid >= $1::text::tid AND ctid < $2::text::tid AND tenant = $3
    AND EXISTS (
      SELECT FROM unnest($4::bytea[]) AS mark WHERE position(mark IN body) > 0) ORDER BY xid, seq"""
_EVENT = "SELECT * FROM {} WHERE ctid = $1::text::tid AND id = $2"
_IS_ONE = """account IN (SELECT id FROM account WHERE tenant = $1) AND (person = ANY ($2::text[])
    OR phone <> '' AND 'phone:' || phone = ANY ($2) OR hidden_id <> '' AND 'hidden:' || hidden_id = ANY ($2)
    OR username <> '' AND 'username:' || username = ANY ($2))"""
_NAMES = "phone, user_id, hidden_id, username, display_name"
_PEOPLE = f"SELECT person AS address, {_NAMES} FROM person_identity WHERE {_IS_ONE}"  # noqa: S608 - constants
_FORGET = f"DELETE FROM person_identity WHERE {_IS_ONE}"  # noqa: S608 - constants
_CHATS = """SELECT chat, same_as FROM chat WHERE account IN (SELECT id FROM account WHERE tenant = $1)
  AND same_as <> chat AND (chat = ANY ($2::text[]) OR same_as = ANY ($2))"""
_RECEIPTS = """SELECT r.* FROM message_receipt r
  WHERE r.ctid >= $1::text::tid AND r.ctid < $2::text::tid AND r.member = ANY ($4::text[])
    AND EXISTS (SELECT FROM account a JOIN message m ON m.account = a.id AND m.id = r.message
      WHERE a.tenant = $3)"""
_RECORDS = """SELECT r.* FROM account_record r JOIN account a ON a.id = r.account
  WHERE r.ctid >= $1::text::tid AND r.ctid < $2::text::tid AND a.tenant = $3
    AND (r.member = ANY ($4::text[]) OR r.key = ANY ($4)) ORDER BY r.account, r.kind, r.key"""
_PARTS = """SELECT r.* FROM message_receipt_part r
  WHERE r.ctid >= $1::text::tid AND r.ctid < $2::text::tid
    AND EXISTS (SELECT FROM unnest($4::bytea[]) AS mark WHERE position(mark IN r.receipts) > 0)
    AND EXISTS (SELECT FROM account a JOIN message m ON m.account = a.id AND m.id = r.message
      WHERE a.tenant = $3)"""
_PART = "SELECT receipts FROM message_receipt_part WHERE message = $1 AND part = $2"
_CHANGE_PART = "UPDATE message_receipt_part SET receipts = $3 WHERE message = $1 AND part = $2"
_FORGET_RECEIPT = "DELETE FROM message_receipt WHERE message = $1 AND member = $2"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
