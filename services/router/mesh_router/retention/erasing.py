"""Erases what is kept of one person: contents and the person go, statuses and counts stay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from enum import Enum

import asyncpg
import orjson
from asyncpg.pgproto.pgproto import UUID
from google.protobuf.message import Message

from mesh_core import ids
from mesh_core.database.pool import AnyConnection
from mesh_core.database.requests import RecordKind
from mesh_core.ids import Prefix
from mesh_core.message_status import WAITING
from mesh_router.retention import group_rows, person_rows
from mesh_router.retention.person_rows import FoundMessage
from mesh_router.retention.persons import Identities
from sessionmesh.v1 import event_pb2, job_pb2, message_pb2

ERASED = "hidden:erased"
"""The chat of messages whose other side was erased."""


class Item(Enum):
    """What became of one row."""

    ERASED = "erased"
    WAITS = "waits"
    """A message that is still to be sent: it is left as it is."""


async def erase(connection: AnyConnection, tenant: UUID, who: Identities) -> AsyncIterator[Item]:
    """Erases all that is stored now, row by row; yields what became of each. What tells that the addresses of
    `who` belong together goes with it, so keep them until all is erased.
    """
    async for found in person_rows.messages(connection, tenant, who):
        yield await _message(connection, tenant, found, who)
    async for receipt in person_rows.receipts(connection, tenant, who):
        await person_rows.forget_receipt(connection, receipt)
        yield Item.ERASED
    await connection.execute(_PICTURES, tenant, sorted(who.addresses), RecordKind.CONTACT_PICTURE)
    for _ in await connection.fetch(_RECORDS, tenant, sorted(who.addresses)):
        yield Item.ERASED
    for _ in await connection.fetch(_CHATS, tenant, sorted(who.addresses)):
        yield Item.ERASED
    async for _ in group_rows.forget(connection, tenant, who):
        yield Item.ERASED
    for _ in await connection.fetch(_JOBS, tenant, sorted(who.addresses), job_pb2.JOB_KIND_SYNC_HISTORY):
        yield Item.ERASED
    for _ in await connection.fetch(_ANSWERS, tenant, who.marks()):
        yield Item.ERASED
    async for event in person_rows.events(connection, tenant, who):
        bare = _bare_event(event.event, who).SerializeToString()
        await connection.execute(_EVENT.format(event.table), event.place, event.row["id"], bare)
        yield Item.ERASED
    await _begun_before_have_ended(connection)  # who fans out what it read earlier
    # What is owed becomes deliveries, at any moment, and never the other way round: so it goes first.
    async for owed, bare in _owed(connection, tenant, who):
        await connection.execute(_OWED, tenant, owed["xid"], owed["seq"], bare)
        yield Item.ERASED
    async for delivery in _deliveries(connection, tenant, who):
        await connection.execute(_DELIVERY, *delivery)
        await connection.execute(_ATTEMPTS, delivery[0])
        yield Item.ERASED
    await person_rows.forget(connection, tenant, who)


async def _begun_before_have_ended(connection: AnyConnection) -> None:
    """Waits for the transactions that are open now, no longer than those of the mesh may last."""
    now = await connection.fetchval("SELECT clock_timestamp()")
    with suppress(TimeoutError):
        async with asyncio.timeout(_LONGEST_TRANSACTION):
            while await connection.fetchval(_BEGUN_BEFORE, now):  # noqa: ASYNC110 - in other processes
                await asyncio.sleep(0.05)


async def _message(connection: AnyConnection, tenant: UUID, found: FoundMessage, who: Identities) -> Item:
    row = found.row
    if not (_only_edited(found) and await connection.fetchval(_PLACE, row["account"], row["id"])):
        chat = ERASED if row["chat"] in who.addresses else row["chat"]
        done = await connection.execute(_MESSAGE, row["account"], row["id"], chat, list(WAITING))
        if done == "UPDATE 0":
            return Item.WAITS
    await connection.execute("DELETE FROM media_fetch WHERE message = $1", row["id"])
    if isinstance(found.stored, message_pb2.Message) and row["direction"] == message_pb2.DIRECTION_INBOUND:
        media = [*_media(found.stored.content)]  # not what it quotes
        if found.stored.content.HasField("revoked"):  # it no longer says which
            files = await connection.fetch(_TAKEN_BACK, row["account"], row["id"])
            media = [file["media"] for file in files]
        if media and (row["chat"] in who.addresses or who.is_one(found.stored.sender)):
            await connection.execute(_MEDIA, tenant, media)
    return Item.ERASED


def _only_edited(found: FoundMessage) -> bool:
    """Whether it is the place of a message that was edited before it came: emptied, it would swallow the
    message. The place of one that was taken back may do so.
    """
    row, stored = found.row, found.stored
    if not isinstance(stored, message_pb2.Message) or row["network_time"] is not None:
        return False
    return not stored.HasField("network_time") and not stored.content.HasField("revoked")


async def _deliveries(
    connection: AnyConnection, tenant: UUID, who: Identities
) -> AsyncIterator[tuple[UUID, bytes]]:
    """Deliveries whose body names the person, with what is left of the body."""
    after = UUID(bytes(16))
    while rows := await connection.fetch(_DELIVERIES, tenant, after, who.marks()):
        for row in rows:
            after = row["id"]
            if row["body"] is None:
                continue
            if (bare := _bare_json(row["body"], who)) is not None:
                yield row["id"], bare


async def _owed(
    connection: AnyConnection, tenant: UUID, who: Identities
) -> AsyncIterator[tuple[asyncpg.Record, bytes]]:
    """The same of deliveries that are still to be made."""
    after_xid, after_seq = 0, 0
    while rows := await connection.fetch(_OWED_ROWS, tenant, after_xid, after_seq):
        for row in rows:
            after_xid, after_seq = row["xid"], row["seq"]
            if (bare := _bare_json(row["body"], who)) is not None:
                yield row, bare


def _bare_json(stored: bytes, who: Identities) -> bytes | None:
    """What is left of a delivery's body; None where it does not name the person."""
    try:
        body = orjson.loads(stored)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(body, dict) or not who.named_in_json(body):
        return None
    return orjson.dumps({key: body[key] for key in _KEPT if key in body})


def _bare_event(event: event_pb2.Event, who: Identities) -> event_pb2.Event:
    """What happened, of what, and when; not to whom. Of many who have a message, the others stay."""
    bare = event_pb2.Event()
    bare.CopyFrom(event)
    if others := [one for one in bare.message_status.members if not who.is_one(one.member)]:
        del bare.message_status.members[:]
        bare.message_status.members.extend(others)
        if not who.named_in(bare):
            return bare
        bare.CopyFrom(event)
    if payload := event.WhichOneof("payload"):
        bare.ClearField(payload)
    bare.ClearField("labels")
    return bare


def _media(message: Message) -> Iterator[UUID]:
    """The media that a message names."""
    for field, value in message.ListFields():
        if field.name == "media_id":
            yield ids.decode(Prefix.MEDIA, value, "media_id")
        elif isinstance(value, Message):
            yield from _media(value)


_KEPT = ("id", "tenant_id", "account_id", "type", "occur_time", "commit_time", "cursor")
_MESSAGE = """UPDATE message SET content = '', chat = $3, failure_detail = ''
  WHERE account = $1 AND id = $2 AND status <> ALL ($4::smallint[])"""
_PLACE = """WITH place AS (
    DELETE FROM message WHERE account = $1 AND id = $2 AND network_time IS NULL RETURNING id),
  known AS (DELETE FROM network_message n USING place WHERE n.account = $1 AND n.message = place.id)
  SELECT true FROM place"""
_BEGUN_BEFORE = """SELECT count(*) FROM pg_stat_activity
  WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start < $1"""
_LONGEST_TRANSACTION = 12.0  # the server ends those of the mesh after ten seconds
_RECORDS = """DELETE FROM account_record WHERE account IN (SELECT id FROM account WHERE tenant = $1)
  AND (member = ANY ($2::text[]) OR key = ANY ($2)) RETURNING 1"""
_CHATS = """DELETE FROM chat WHERE account IN (SELECT id FROM account WHERE tenant = $1)
  AND (chat = ANY ($2::text[]) OR same_as = ANY ($2)) RETURNING 1"""
_JOBS = """UPDATE job SET subject = '',
    cancel_time = CASE WHEN end_time IS NULL THEN coalesce(cancel_time, now()) ELSE cancel_time END
  WHERE tenant = $1 AND kind = $3 AND subject = ANY ($2::text[]) RETURNING 1"""
# What is in them is not parsed: somebody else's, which a repeat then gets empty, may be among them
_ANSWERS = """UPDATE request SET answer = NULL WHERE scope IN (SELECT id FROM account WHERE tenant = $1)
  AND answer IS NOT NULL
  AND EXISTS (SELECT FROM unnest($2::bytea[]) AS mark WHERE position(mark IN answer) > 0) RETURNING 1"""
_EVENT = "UPDATE {} SET body = $3 WHERE ctid = $1::text::tid AND id = $2"
_TAKEN_BACK = "SELECT media FROM media_reference WHERE account = $1 AND message = $2"
# Equal files are one media for all of an account's messages: one that another message has stays with that.
_MEDIA = """UPDATE media SET ended = true, expire_time = now()
  WHERE tenant = $1 AND id = ANY ($2::uuid[]) AND NOT EXISTS (
    SELECT FROM media_reference r JOIN message m ON m.account = r.account AND m.id = r.message
    WHERE r.media = media.id AND octet_length(m.content) > 0)"""
# Those that an account was given, unless somebody else's is the same.
_PICTURES = """UPDATE media m SET ended = true, expire_time = now()
  FROM account_record r JOIN account a ON a.id = r.account
  WHERE a.tenant = $1 AND r.kind = $3 AND r.key = ANY ($2::text[])
    AND m.tenant = $1 AND m.id = encode(r.value, 'hex')::uuid
    AND NOT EXISTS (SELECT FROM account_record o
      WHERE o.account = r.account AND o.kind = $3 AND o.value = r.value AND o.key <> ALL ($2))
    AND NOT EXISTS (SELECT FROM media_reference s JOIN message t ON t.account = s.account AND t.id = s.message
      WHERE s.media = m.id AND octet_length(t.content) > 0)"""
_DELIVERIES = """SELECT id, CASE WHEN EXISTS (
    SELECT FROM unnest($3::bytea[]) AS mark WHERE position(mark IN body) > 0) THEN body END AS body
  FROM webhook_delivery WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT 200"""
_OWED_ROWS = """SELECT xid, seq, body FROM webhook_owed
  WHERE tenant = $1 AND (xid, seq) > ($2::xid8, $3) ORDER BY xid, seq LIMIT 100"""
_OWED = "UPDATE webhook_owed SET body = $4 WHERE tenant = $1 AND xid = $2::xid8 AND seq = $3"
_DELIVERY = "UPDATE webhook_delivery SET body = $2 WHERE id = $1"
_ATTEMPTS = """UPDATE webhook_attempt t SET response_body = '' FROM webhook_delivery d
  WHERE d.id = $1 AND t.endpoint = d.endpoint AND t.delivery = d.id"""
