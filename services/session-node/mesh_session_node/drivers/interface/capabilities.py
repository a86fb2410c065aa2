"""What a network may be able to do beside taking and bringing messages: which acts a driver declares, whose
protocols, one for each family, its links implement as far as that goes.

All acts return when the network has done what was asked, and raise `Refused` when it did not,
`ConnectionEnded` when there is no connection any more, and `TimeoutError` when the network does not answer:
then it may be done or not. Unless its protocol says otherwise an act sets something, so that doing it twice
is as doing it once.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from mesh_session_node.drivers.interface.channel_actions import ChannelActions
from mesh_session_node.drivers.interface.chat_actions import ChatActions
from mesh_session_node.drivers.interface.contact_actions import ContactActions
from mesh_session_node.drivers.interface.group_actions import CommunityActions, GroupActions
from mesh_session_node.drivers.interface.message_actions import CallActions, MessageActions, PresenceActions
from mesh_session_node.drivers.interface.profile_actions import ProfileActions


class Capability(Enum):
    """One act, in the words of docs/drivers.md."""

    STATUS = "status posts to the people named"
    STATUS_TO_CONTACTS = "status posts to all contacts, or all but some"
    EDIT = "editing messages"
    REVOKE = "taking messages back"
    PIN = "pinning messages"
    STAR = "starring messages"
    DELETE_FOR_ME = "deleting messages on the account's own devices"
    MARK_READ = "telling that messages were read or played"
    END_LIVE_LOCATION = "ending a live location before its time"
    TYPING = "showing that the account writes or records"
    CHECK_NUMBERS = "asking which numbers are on the network"
    PRESENCE = "showing the account as online, or not"
    WATCH_PRESENCE = "being told who is online"
    REJECT_CALL = "rejecting calls"
    BLOCK = "blocking people, and listing who is blocked"
    LOOK_UP_PERSON = "asking what a person shows"
    RESOLVE_PEOPLE = "asking by what else people are known"
    ADDRESS_BOOK = "saving and deleting contacts in the account's address book"
    PICTURES = "people's pictures"
    BUSINESS_PROFILES = "what companies show of themselves"
    PROFILE = "the account's own name, text and picture"
    EDIT_BUSINESS_PROFILE = "changing what the account shows as a business"
    PRIVACY = "to whom the account shows what"
    GROUPS = "telling which groups the account is in, and who is in them"
    CREATE_GROUP = "making groups"
    CHANGE_GROUP = "changing what groups are called and how they behave, and leaving them"
    GROUP_HISTORY = "letting members send recent messages to new ones"
    GROUP_PICTURE = "pictures of groups"
    GROUP_MEMBERS = "adding and removing members, and making them administrators"
    GROUP_INVITE = "invite links of groups, and joining by them"
    GROUP_JOIN_REQUESTS = "people who ask to join a group"
    COMMUNITIES = "communities, and the groups that are linked to them"
    PROXY = "connecting through a proxy of the account's own"
    FOLLOW_CHANNELS = "finding, following and muting channels, and reading their posts"
    RUN_CHANNELS = "creating, changing and deleting channels"
    POST_TO_CHANNELS = "posts and reactions in channels"
    ARCHIVE_CHAT = "putting chats away"
    MUTE_CHAT = "muting chats"
    PIN_CHAT = "pinning chats"
    MARK_CHAT = "marking chats as read or unread"
    CLEAR_CHAT = "clearing and deleting chats"
    DISAPPEARING = "messages of a chat that disappear"
    LABELS = "labels, on chats and messages"
    HISTORY = "the past of a chat, asked of its phone"


OF_GROUPS = frozenset(
    {
        Capability.GROUPS,
        Capability.CREATE_GROUP,
        Capability.CHANGE_GROUP,
        Capability.GROUP_HISTORY,
        Capability.GROUP_PICTURE,
        Capability.GROUP_MEMBERS,
        Capability.GROUP_INVITE,
        Capability.GROUP_JOIN_REQUESTS,
        Capability.COMMUNITIES,
    }
)
"""What `GroupActions` and `CommunityActions` are about."""
OF_CHATS = frozenset(
    {
        Capability.ARCHIVE_CHAT,
        Capability.MUTE_CHAT,
        Capability.PIN_CHAT,
        Capability.MARK_CHAT,
        Capability.CLEAR_CHAT,
        Capability.DISAPPEARING,
        Capability.LABELS,
        Capability.HISTORY,
    }
)
"""What `ChatActions` is about."""


class Acting(
    MessageActions,
    ContactActions,
    ProfileActions,
    GroupActions,
    CommunityActions,
    ChatActions,
    PresenceActions,
    CallActions,
    ChannelActions,
    Protocol,
):
    """A link of a driver that could do everything; who has one calls only what its driver declares."""
