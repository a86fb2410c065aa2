"""The calls of ChannelService that read, and what the others store."""

from __future__ import annotations

import re
from contextlib import suppress

from mesh_core import addresses, validation
from mesh_core.errors import InvalidField, MeshError, NotFound
from mesh_core.paging import MAX_BYTES, Page, Pager
from mesh_core.shares import Shares
from mesh_session_node.account.session import Session
from mesh_session_node.calls.account_call import AccountCalls, Context, in_time
from mesh_session_node.calls.outcomes import lacking
from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.channel_actions import ListedPost
from mesh_session_node.inbound.channel_notices import name_stored
from mesh_session_node.inbound.channels import INVITE_URL, Channels, changes, fit_post, made_fit
from mesh_session_node.store.messages import MessageStore
from mesh_session_node.store.pictures import Pictures
from sessionmesh.v1 import channel_pb2 as pb

ASKED_AT_ONCE = 100
"""Posts that the network is asked for in one question."""
LISTED_AT_ONCE = 16
"""Pages of posts that a node has in the making, which tenants share: they wait for networks, and each may
take some megabytes.
"""
MAX_NAME = 100
"""Characters of a channel's name."""


class ChannelReading:
    """Part of `ChannelService`."""

    def __init__(
        self,
        calls: AccountCalls,
        channels: Channels,
        messages: MessageStore,
        pictures: Pictures,
        pager: Pager,
    ) -> None:
        self._calls = calls
        self._channels = channels
        self._messages = messages
        self._pictures = pictures
        self._pager = pager
        self._places = Shares(LISTED_AT_ONCE)

    async def GetChannel(self, request: pb.GetChannelRequest, context: Context) -> pb.GetChannelResponse:
        session = await self._calls.session(request.account_id, context)
        address = addresses.channel("channel", request.channel)
        await self._read_list(session)
        channel = await self._channels.stored(session.context, address)
        if channel is None:
            raise NotFound("channel", address)
        return pb.GetChannelResponse(channel=channel)

    async def ListChannels(
        self, request: pb.ListChannelsRequest, context: Context
    ) -> pb.ListChannelsResponse:
        session = await self._calls.session(request.account_id, context)
        page = self._pager.page(request, session.context.ref.tenant.bytes)
        await self._read_list(session)
        after = "" if page.after is None else page.after.decode()
        async with self._pager.working(session.context.ref.tenant):
            found = await self._channels.page(session.context, after, page.fetch)
        channels, token = page.cut(found, lambda one: one, lambda one: one.address.encode())
        return pb.ListChannelsResponse(channels=channels, next_page_token=token)

    async def ListChannelPosts(
        self, request: pb.ListChannelPostsRequest, context: Context
    ) -> pb.ListChannelPostsResponse:
        session = await self._calls.session(request.account_id, context)
        address = addresses.channel("channel", request.channel)
        page = self._pager.page(request, session.context.ref.tenant.bytes)
        async with self._places.place(session.context.ref.tenant):
            found = await self._posts(session, address, page)
            shown, token = page.cut(found, lambda one: one.post, lambda one: one.number.to_bytes(8, "big"))
        await name_stored(self._messages, session.context, shown)
        return pb.ListChannelPostsResponse(posts=shown, next_page_token=token)

    # ---

    async def _posts(self, session: Session, address: str, page: Page) -> list[ListedPost]:
        """The page's posts and one more, as far as they fit into an answer, asked for one after the other."""
        before = 0 if page.after is None else int.from_bytes(page.after, "big")
        found: list[ListedPost] = []
        size = 0
        while len(found) < page.fetch and size <= MAX_BYTES:
            most = min(page.fetch - len(found), ASKED_AT_ONCE)
            asked_before = before
            posts = await self._calls.act(
                session,
                Capability.FOLLOW_CHANNELS,
                lambda link: link.list_posts(address, asked_before, most),  # noqa: B023 - awaited here
                about=address,
            )
            news = [one for one in posts[:most] if one.number > 0 and (not before or one.number < before)]
            if not news:
                break
            async for one in self._pager.slices.each(session.context.ref.tenant, news):
                fit_post(address, one.post)
                size += one.post.ByteSize()
            found += news
            before = min(one.number for one in news)
        return found

    async def _read_list(self, session: Session) -> None:
        """Read the list of the account's channels from the network where it was not for long; what is stored
        has to do where the network cannot be asked.
        """
        context = session.context
        if Capability.FOLLOW_CHANNELS not in context.driver.capabilities:
            raise lacking(Capability.FOLLOW_CHANNELS.value)
        if context.link is None or not await self._channels.list_is_due(context):
            return
        with suppress(MeshError):
            async with self._channels.turn(context):
                if not await self._channels.list_is_due(context):
                    return
                told = await self._calls.act(
                    session, Capability.FOLLOW_CHANNELS, lambda link: link.list_channels()
                )
                await in_time(self._calls.write(session, *await self._channels.listed(context, told)))

    async def _fetched(self, session: Session, address: str) -> pb.Channel:
        """A channel as the network has it now."""
        return await self._calls.act(
            session, Capability.FOLLOW_CHANNELS, lambda link: link.fetch_channel(address), about=address
        )

    async def _keep(self, session: Session, told: pb.Channel, picture_media_id: str = "") -> pb.Channel:
        """Store what the network told of a channel; as callers are shown it. For whoever has its turn."""
        now = made_fit(told)
        if picture_media_id and now.picture_id:
            now.picture_media_id = picture_media_id
        before = await self._channels.stored(session.context, now.address)
        rows = changes(session.context, before, now)
        if rows:
            await in_time(self._calls.write(session, *rows))
        return now


def check_name(field: str, name: str) -> None:
    """A channel's name."""
    validation.visible_text(field, validation.required_text(field, name, MAX_NAME), MAX_NAME)


def invite_code_of(field: str, given: str) -> str:
    """The code of an invite link, from the code or the link."""
    code = given
    for prefix in (INVITE_URL, INVITE_URL.replace("https://", "https://www.")):
        code = code.removeprefix(prefix)
    if not _code(code):
        raise InvalidField(field, f"must be the code of an invite link, or {INVITE_URL}CODE")
    return code


_code = re.compile(r"[A-Za-z0-9_-]{1,128}").fullmatch
