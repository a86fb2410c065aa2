"""A group, a channel, chats and settings of an account: python groups_and_chats.py acc_... +4915112345678"""

import asyncio
import os
import sys

from google.protobuf.field_mask_pb2 import FieldMask

from mesh_client import connect
from sessionmesh.v1 import channel_pb2, chat_pb2, group_pb2, session_pb2


async def main(account_id: str, *members: str) -> None:
    async with connect(os.environ["MESH_ADDRESS"], os.environ["MESH_API_KEY"]) as client:
        wanted = group_pb2.CreateGroupRequest(account_id=account_id, name="Order 4711", members=members)
        made = await client.groups.CreateGroup(wanted)
        print("group:", made.group.address)
        for failure in made.failures:  # such as people who can only be invited
            print("not in it:", failure.member, failure.error.message)
        await client.send_text(account_id, made.group.address, "Your order is being packed")

        news = channel_pb2.CreateChannelRequest(account_id=account_id, name="Offers")
        channel = (await client.channels.CreateChannel(news)).channel
        print("channel:", channel.address, "invite:", channel.invite_url)
        await client.send_text(account_id, channel.address, "Apples, this week only")

        unread = chat_pb2.ListChatsRequest(account_id=account_id, unread_only=True)
        for chat in (await client.chats.ListChats(unread)).chats:
            print("unread:", chat.unread_count, "of", chat.name or chat.address)
            read = chat_pb2.MarkChatReadRequest(account_id=account_id, address=chat.address)
            await client.chats.MarkChatRead(read)

        update = session_pb2.UpdateSessionSettingsRequest(
            account_id=account_id,
            settings=session_pb2.SessionSettings(reject_calls=True, reject_calls_text="Please write to us"),
            update_mask=FieldMask(paths=["reject_calls", "reject_calls_text"]),
        )
        settings = (await client.sessions.UpdateSessionSettings(update)).settings
        print("calls are rejected:", settings.reject_calls)


asyncio.run(main(*sys.argv[1:]))
