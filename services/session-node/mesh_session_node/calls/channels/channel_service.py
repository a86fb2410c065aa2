"""ChannelService: channels that the account runs or follows, and their posts."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mesh_core import addresses, validation
from mesh_core.database.requests import Method, RecordKind
from mesh_core.errors import InvalidField, MeshError, NotFound, Unavailable
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import Context, in_time
from mesh_session_node.calls.channels.channel_reading import ChannelReading, check_name, invite_code_of
from mesh_session_node.calls.pictures import jpeg_of
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.channel_actions import ChannelChanges
from mesh_session_node.inbound.channels import changes, made_fit
from mesh_session_node.journal import AccountRecord, Row
from sessionmesh.v1 import channel_pb2 as pb
from sessionmesh.v1 import channel_pb2_grpc

MAX_PICTURE_BYTES = 512 * 1024
"""What networks take without complaint: they make their own smaller pictures of it."""
MAX_DESCRIPTION = 2_048
"""Characters of what a channel is about."""
UPDATABLE = ("name", "description", "picture_media_id", "reactions")
"""What of a channel can be changed."""


class ChannelService(ChannelReading, channel_pb2_grpc.ChannelServiceServicer):
    """Whatever the network answers about a channel is stored, with the event of what is news in it."""

    async def CreateChannel(
        self, request: pb.CreateChannelRequest, context: Context
    ) -> pb.CreateChannelResponse:
        session = await self._calls.session(request.account_id, context)
        check_name("name", request.name)
        validation.text("description", request.description, MAX_DESCRIPTION)

        async def act() -> tuple[pb.CreateChannelResponse, Sequence[Row]]:
            picture = await jpeg_of(
                self._pictures, session, "picture_media_id", request.picture_media_id, MAX_PICTURE_BYTES
            )
            made = made_fit(await self._made(session, request, picture))
            if made.picture_id:
                made.picture_media_id = request.picture_media_id
            before = await self._channels.stored(session.context, made.address)  # where a notice was faster
            rows = changes(session.context, before, made)
            return pb.CreateChannelResponse(channel=made), [*rows, _begun(request.request_id, over=True)]

        turn = self._channels.turn(session.context)
        answer = pb.CreateChannelResponse
        return await self._calls.answered(session, Method.CREATE_CHANNEL, request, answer, act, turn=turn)

    async def FetchChannel(
        self, request: pb.FetchChannelRequest, context: Context
    ) -> pb.FetchChannelResponse:
        session = await self._calls.session(request.account_id, context)
        by = request.WhichOneof("by")
        if by is None:
            raise InvalidField("by", "channel or invite_code is required")
        address, code = "", ""
        if by == "channel":
            address = addresses.channel("channel", request.channel)
        else:
            code = invite_code_of("invite_code", request.invite_code)
        async with self._channels.turn(session.context):
            try:
                told = await self._calls.act(
                    session,
                    Capability.FOLLOW_CHANNELS,
                    lambda link: link.fetch_channel(address, code),
                    about=address or code,
                )
            except NotFound:
                if address:
                    await self._keep(session, pb.Channel(address=address, state=pb.CHANNEL_STATE_DELETED))
                raise
            return pb.FetchChannelResponse(channel=await self._keep(session, told))

    async def UpdateChannel(
        self, request: pb.UpdateChannelRequest, context: Context
    ) -> pb.UpdateChannelResponse:
        session = await self._calls.session(request.account_id, context)
        given = request.channel
        address = addresses.channel("channel.address", given.address)
        paths = validation.field_mask(request.update_mask, UPDATABLE)
        if "name" in paths:
            check_name("channel.name", given.name)
        if "description" in paths:
            validation.text("channel.description", given.description, MAX_DESCRIPTION)
        picture = None
        if "picture_media_id" in paths:
            picture = await jpeg_of(
                self._pictures, session, "channel.picture_media_id", given.picture_media_id, MAX_PICTURE_BYTES
            )
        wanted = ChannelChanges(
            given.name if "name" in paths else None,
            given.description if "description" in paths else None,
            picture,
            given.reactions or pb.CHANNEL_REACTIONS_ALL if "reactions" in paths else None,
        )
        async with self._channels.turn(session.context):
            await self._check_etag(session, address, given.etag)
            told = await self._calls.act(
                session,
                Capability.RUN_CHANNELS,
                lambda link: link.update_channel(address, wanted),
                about=address,
            )
            media = given.picture_media_id if "picture_media_id" in paths else ""
            return pb.UpdateChannelResponse(channel=await self._keep(session, told, media))

    async def DeleteChannel(
        self, request: pb.DeleteChannelRequest, context: Context
    ) -> pb.DeleteChannelResponse:
        session = await self._calls.session(request.account_id, context)
        address = addresses.channel("channel", request.channel)
        async with self._channels.turn(session.context):
            await self._check_etag(session, address, request.etag)
            await self._calls.act(
                session, Capability.RUN_CHANNELS, lambda link: link.delete_channel(address), about=address
            )
            await self._keep(session, pb.Channel(address=address, state=pb.CHANNEL_STATE_DELETED))
        return pb.DeleteChannelResponse()

    async def FollowChannel(
        self, request: pb.FollowChannelRequest, context: Context
    ) -> pb.FollowChannelResponse:
        session = await self._calls.session(request.account_id, context)
        address = addresses.channel("channel", request.channel)
        async with self._channels.turn(session.context):
            told = await self._calls.act(
                session, Capability.FOLLOW_CHANNELS, lambda link: link.follow_channel(address), about=address
            )
            return pb.FollowChannelResponse(channel=await self._keep(session, told))

    async def UnfollowChannel(
        self, request: pb.UnfollowChannelRequest, context: Context
    ) -> pb.UnfollowChannelResponse:
        session = await self._calls.session(request.account_id, context)
        address = addresses.channel("channel", request.channel)
        async with self._channels.turn(session.context):
            await self._calls.act(
                session,
                Capability.FOLLOW_CHANNELS,
                lambda link: link.unfollow_channel(address),
                about=address,
            )
            await self._keep(session, pb.Channel(address=address, own_role=pb.CHANNEL_ROLE_GUEST))
        return pb.UnfollowChannelResponse()

    async def SetChannelMuted(
        self, request: pb.SetChannelMutedRequest, context: Context
    ) -> pb.SetChannelMutedResponse:
        session = await self._calls.session(request.account_id, context)
        address = addresses.channel("channel", request.channel)
        async with self._channels.turn(session.context):
            await self._calls.act(
                session,
                Capability.FOLLOW_CHANNELS,
                lambda link: link.mute_channel(address, muted=request.muted),
                about=address,
            )
            await self._keep(session, await self._fetched(session, address))
        return pb.SetChannelMutedResponse()

    # ---

    async def _made(self, session: Session, request: pb.CreateChannelRequest, picture: bytes) -> pb.Channel:
        """A new channel; or where the network was asked for it before, and nothing is stored of its answer,
        the one that it made then.
        """
        first = await self._channels.begun(session.context, request.request_id)
        if first is None:
            await in_time(self._calls.write(session, _begun(request.request_id)))
        elif (made := await self._found(session, request, first)) is not None:
            return made
        try:
            return await self._calls.act(
                session,
                Capability.RUN_CHANNELS,
                lambda link: link.create_channel(request.name, request.description, picture),
                about=request.name,
            )
        except Unavailable:  # nobody knows
            raise
        except MeshError:
            await in_time(self._calls.write(session, _begun(request.request_id, over=True)))
            raise

    async def _found(
        self, session: Session, request: pb.CreateChannelRequest, first: int
    ) -> pb.Channel | None:
        """A channel that the account owns, of that name, made since then, which the mesh has not answered."""
        listed = await self._calls.act(
            session, Capability.FOLLOW_CHANNELS, lambda link: link.list_channels(), about=request.name
        )
        for channel in listed:
            fits = channel.own_role == pb.CHANNEL_ROLE_OWNER and channel.name == request.name
            since = channel.create_time.ToMicroseconds() >= first - _CLOCKS_APART
            if fits and since and await self._channels.stored(session.context, channel.address) is None:
                return channel
        return None

    async def _check_etag(self, session: Session, address: str, etag: str) -> None:
        """Raises `Aborted` ETAG_MISMATCH where the channel is not as the caller has read it."""
        if not etag:
            return
        validation.check_etag(etag, made_fit(await self._fetched(session, address)).etag)


def _begun(request_id: str, *, over: bool = False) -> AccountRecord:
    value = None if over else b""
    return AccountRecord(RecordKind.CHANNEL_BEGUN, request_id, "", value, time.time_ns() // 1000)


_CLOCKS_APART = 300_000_000
"""Microseconds by which the network's clock may be behind."""
