"""Who takes which kind of notice: one taker for each family of them.

A taker turns what a network told into rows: records that hold what is so from now on, and events that tell of
it. It reads what is stored before, and may ask the network over the session's link; then it takes its time,
and what comes behind it for the account waits. One taker is for all accounts, so it keeps nothing of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from mesh_session_node.context.context import SessionContext
from mesh_session_node.drivers.interface.chat_notices import (
    ChatEmptied,
    ChatRead,
    ChatSet,
    Labelled,
    LabelSet,
)
from mesh_session_node.drivers.interface.contact_notices import PersonChanged
from mesh_session_node.drivers.interface.group_notices import (
    CommunityEnded,
    CommunityGroupsChanged,
    GroupChanged,
    GroupEntered,
    JoinRequested,
    MembersChanged,
)
from mesh_session_node.drivers.interface.notices import (
    CallEnded,
    CallOffered,
    ChannelTold,
    PostsTold,
    PresenceShown,
    TypingShown,
)
from mesh_session_node.inbound.calls import Calls
from mesh_session_node.inbound.presence import Presences
from mesh_session_node.journal import Row


class NoticeTaker(Protocol):
    """Takes the notices of one family."""

    def turn(self, session: SessionContext, notice: Any) -> AbstractAsyncContextManager[object]:
        """Held from before a notice is taken until its rows are stored. Calls that change the same hold it,
        too, so that what was read is still so when the rows are stored.
        """

    async def take(self, session: SessionContext, notice: Any) -> Sequence[Row]:
        """The rows that come of a notice: records, events. They are stored in one commit, and only then is
        the network told. The next notice of the account is taken after that, so it may read what is stored.
        A notice may come again that was stored before. Raises what `mesh_core.database.UNAVAILABLE` names
        when it is to be tried again.
        """


NoticeTakers = Mapping[type, NoticeTaker]
"""By the kind of notice. What is not there is acknowledged, and nothing comes of it."""


def notice_takers(
    calls: Calls,
    channels: NoticeTaker,
    chats: NoticeTaker,
    groups: NoticeTaker,
    people: NoticeTaker,
) -> NoticeTakers:
    """Those of a node."""
    presences = Presences()
    return {
        CallEnded: calls,
        CallOffered: calls,
        ChannelTold: channels,
        PostsTold: channels,
        ChatEmptied: chats,
        ChatRead: chats,
        ChatSet: chats,
        LabelSet: chats,
        Labelled: chats,
        PersonChanged: people,
        PresenceShown: presences,
        TypingShown: presences,
        CommunityEnded: groups,
        CommunityGroupsChanged: groups,
        GroupChanged: groups,
        GroupEntered: groups,
        JoinRequested: groups,
        MembersChanged: groups,
    }
