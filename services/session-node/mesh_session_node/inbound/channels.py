"""The channels that accounts follow or run, as the network told them: what is stored of them, and the events
of what has changed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from hashlib import blake2b

from asyncpg.pgproto.pgproto import UUID

from mesh_core.database.requests import RecordKind
from mesh_session_node.context.context import SessionContext
from mesh_session_node.context.locks import Locks
from mesh_session_node.inbound.bounds import fit, fit_address, fit_text
from mesh_session_node.journal import AccountRecord, Event, Row
from mesh_session_node.store.media import media_of
from mesh_session_node.store.records import RecordStore
from sessionmesh.v1 import channel_pb2
from sessionmesh.v1.channel_pb2 import Channel

MAX_CHANNELS = 5_000
"""Channels that are stored of an account; what it follows beyond them is not listed."""
MAX_NAME = 512
"""Characters of a channel's name as others chose it."""
MAX_DESCRIPTION = 8 * 1024
LIST_SECONDS = 86_400
"""How long the list of an account's channels is not asked for again: what changes meanwhile is told."""


class Channels:
    """Reads and changes what is stored of channels; one for all accounts. What it reads raises what
    `mesh_core.database.UNAVAILABLE` names.
    """

    def __init__(self, records: RecordStore) -> None:
        self._records = records
        self._turns = Locks[UUID]()

    def turn(self, session: SessionContext) -> asyncio.Lock:
        """Held by whoever changes what is stored of the account's channels, from before the network is asked
        until it is stored: what is followed while the list is read is not in the list.
        """
        return self._turns.of(session.ref.uuid)

    async def stored(self, session: SessionContext, address: str) -> Channel | None:
        """A channel as it is stored; None for one that the account neither follows nor runs."""
        record = await self._records.one(session.ref.uuid, RecordKind.CHANNEL, address)
        return None if record is None else Channel.FromString(record.value)

    async def page(self, session: SessionContext, after: str, limit: int) -> list[Channel]:
        """At most so many channels whose addresses are behind `after`, by their addresses."""
        records = await self._records.page(session.ref.uuid, RecordKind.CHANNEL, after, limit)
        return [Channel.FromString(record.value) for record in records]

    async def list_is_due(self, session: SessionContext) -> bool:
        """Whether the list should be read from the network again."""
        read = await self._records.one(session.ref.uuid, RecordKind.CHANNELS_READ, "all")
        return read is None or read.time < _now() - LIST_SECONDS * 1_000_000

    async def begun(self, session: SessionContext, request_id: str) -> int | None:
        """When the network was first asked for a channel whose answer is not stored; None: it was not."""
        record = await self._records.one(session.ref.uuid, RecordKind.CHANNEL_BEGUN, request_id)
        return None if record is None else record.time

    async def listed(self, session: SessionContext, told: Sequence[Channel]) -> list[Row]:
        """What changes when the network tells the whole list. Nothing is an event the first time."""
        known = {one.address: one for one in await self.page(session, "", MAX_CHANNELS)}
        first = await self._records.one(session.ref.uuid, RecordKind.CHANNELS_READ, "all") is None
        rows: list[Row] = []
        for channel in told[:MAX_CHANNELS]:
            shown = made_fit(channel)
            rows += changes(session, known.pop(shown.address, None), shown, quietly=first)
        for gone in known.values():
            gone.own_role = channel_pb2.CHANNEL_ROLE_GUEST
            rows += changes(session, gone, gone)
        return [*rows, AccountRecord(RecordKind.CHANNELS_READ, "all", "", b"", _now())]


def made_fit(told: Channel) -> Channel:
    """A channel with nothing in it that cannot be stored or shown, and what is ours to say of it."""
    channel = Channel()
    channel.CopyFrom(told)
    fit(channel)
    channel.address = fit_address(f"channel:{told.address.removeprefix('channel:')}")
    channel.name, channel.description = (
        fit_text(channel.name, MAX_NAME),
        fit_text(channel.description, MAX_DESCRIPTION),
    )
    channel.ClearField("picture_media_id")
    channel.invite_url = f"{INVITE_URL}{channel.invite_code}" if channel.invite_code else ""
    if channel.follower_count < 0:
        channel.ClearField("follower_count")
    _tag(channel)
    return channel


def changes(
    session: SessionContext, before: Channel | None, now: Channel, *, quietly: bool = False
) -> list[Row]:
    """What is stored when a channel is so now, which is fit, and the event of it: nothing of one that the
    account neither followed nor follows. The picture's media stay those that the mesh knows of it.
    """
    micros = _now()
    if before is not None and before.picture_id and before.picture_id == now.picture_id:
        now.picture_media_id = now.picture_media_id or before.picture_media_id
    gone = now.state == channel_pb2.CHANNEL_STATE_DELETED
    if gone or now.own_role < channel_pb2.CHANNEL_ROLE_FOLLOWER:
        if before is None:
            return []
        told = Channel()
        told.CopyFrom(before)
        told.own_role, told.state = channel_pb2.CHANNEL_ROLE_GUEST, now.state or before.state
        told.muted = False
        _tag(told)
        rows: list[Row] = [AccountRecord(RecordKind.CHANNEL, now.address, "", None, micros)]
        type_ = "channel.deleted" if gone else "channel.unfollowed"
        return rows if quietly else [*rows, _event(session, type_, told, micros)]
    if before is not None and before == now:
        return []
    rows = [AccountRecord(RecordKind.CHANNEL, now.address, "", now.SerializeToString(), micros)]
    if quietly or (before is not None and before.etag == now.etag):  # only more or fewer follow it
        return rows
    type_ = "channel.followed" if before is None else "channel.updated"
    return [*rows, _event(session, type_, now, micros)]


def fit_post(address: str, post: channel_pb2.ChannelPost) -> None:
    """Make a post of a channel fit, in place; the most frequent reactions first."""
    fit(post)
    post.ref.chat = post.ref.sender = address
    if (media := media_of(post.content)) is not None:
        media.ClearField("state")  # nobody fetches it
    if post.view_count < 0:
        post.ClearField("view_count")
    counted: Mapping[str, int] = {
        one.emoji: one.count for one in post.reactions if one.emoji and one.count > 0
    }
    del post.reactions[:]
    for emoji, count in sorted(counted.items(), key=lambda one: (-one[1], one[0])):
        post.reactions.add(emoji=emoji, count=count)


INVITE_URL = "https://whatsapp.com/channel/"


def _event(session: SessionContext, type_: str, channel: Channel, micros: int) -> Event:
    return session.events.of(type_, micros, channel=channel_pb2.ChannelEvent(channel=channel))


def _tag(channel: Channel) -> None:
    """Give it the etag of what it says, without how many follow it."""
    said = Channel()
    said.CopyFrom(channel)
    for name in ("etag", "follower_count", "picture_media_id"):
        said.ClearField(name)
    channel.etag = blake2b(said.SerializeToString(deterministic=True), digest_size=12).hexdigest()


def _now() -> int:
    return time.time_ns() // 1000
