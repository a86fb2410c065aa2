"""What a network tells beside messages, made fit to be stored and shown: a bound for each kind of notice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar, cast

from mesh_session_node.drivers.interface.chat_actions import FOR_EVER, LabelFacts
from mesh_session_node.drivers.interface.chat_notices import (
    ChatEmptied,
    ChatRead,
    ChatSet,
    Labelled,
    LabelSet,
)
from mesh_session_node.drivers.interface.contact_notices import PersonChanged
from mesh_session_node.drivers.interface.notices import (
    CallEnded,
    CallOffered,
    ChannelTold,
    Notice,
    PostsTold,
    PresenceShown,
    TypingShown,
    UnknownNotice,
)
from mesh_session_node.drivers.interface.outcomes import MAX_DETAIL
from mesh_session_node.inbound.bounds import MAX_ID, changed, fit_address, fit_id, fit_text, fit_time
from mesh_session_node.inbound.bounds import MAX_NAME as MAX_SHOWN_NAME
from mesh_session_node.inbound.channels import fit_post, made_fit
from mesh_session_node.inbound.fitting import fit_identity
from mesh_session_node.inbound.fitting_groups import OF_GROUPS
from sessionmesh.v1 import call_pb2, message_pb2

MAX_KIND = 64
"""Characters of what an unknown notice is called."""
MAX_NAME = 100
"""Characters of what a chat or a label is called."""
MAX_LABEL_ID = 64
MAX_COLOR = 1_000
MAX_DISAPPEAR_SECONDS = 90 * 86_400
MAX_POSTS = 100
"""Posts of one notice."""
AnyCall = TypeVar("AnyCall", CallOffered, CallEnded)


def fit_notice(notice: Notice) -> Notice:
    """The notice with nothing in it that cannot be stored or shown. Raises `LookupError` for a kind without
    a bound.
    """
    return cast(Notice, BOUNDS[type(notice)](notice))


def _typing(notice: TypingShown) -> TypingShown:
    state = notice.state
    if state not in message_pb2.TypingState.values():
        changed("enum")
        state = message_pb2.TYPING_STATE_UNSPECIFIED
    return TypingShown(
        fit_address(notice.chat), fit_address(notice.person), state, fit_identity(notice.identity)
    )


def _presence(notice: PresenceShown) -> PresenceShown:
    return PresenceShown(
        fit_address(notice.person),
        notice.online,
        None if notice.last_seen is None else fit_time(notice.last_seen, _now()),
        fit_identity(notice.identity),
    )


def _call(notice: AnyCall) -> AnyCall:
    return replace(
        notice,
        call_id=fit_id(notice.call_id),
        caller=fit_address(notice.caller),
        time=fit_time(notice.time, _now()),
        group=notice.group and fit_address(notice.group),
        identity=fit_identity(notice.identity),
    )


def _ended(notice: CallEnded) -> CallEnded:
    if notice.cause not in call_pb2.CallEndCause.values():
        changed("enum")
        notice = replace(notice, cause=call_pb2.CALL_END_CAUSE_UNSPECIFIED)
    return _call(notice)


def _chat_set(notice: ChatSet) -> ChatSet:
    until, after, name = notice.mute_until, notice.disappear_after, notice.name
    return replace(
        notice,
        chat=fit_address(notice.chat),
        mute_until=None if until is None else min(max(until, 0), FOR_EVER),
        disappear_after=None if after is None else min(max(after, 0), MAX_DISAPPEAR_SECONDS),
        name=None if name is None else fit_text(name, MAX_NAME),
    )


def _chat_read(notice: ChatRead) -> ChatRead:
    until = min(max(notice.until, 0), FOR_EVER)
    return ChatRead(fit_address(notice.chat), notice.network_id and fit_id(notice.network_id), until)


def _chat_emptied(notice: ChatEmptied) -> ChatEmptied:
    return replace(notice, chat=fit_address(notice.chat), until=min(max(notice.until, 0), FOR_EVER))


def _label_set(notice: LabelSet) -> LabelSet:
    label = notice.label
    color = None if label.color is None else min(max(label.color, 0), MAX_COLOR)
    return replace(notice, label=LabelFacts(_label_id(label.id), fit_text(label.name, MAX_NAME), color))


def _labelled(notice: Labelled) -> Labelled:
    return replace(
        notice,
        label_id=_label_id(notice.label_id),
        chat=fit_address(notice.chat),
        network_id=notice.network_id and fit_id(notice.network_id),
    )


def _label_id(text: str) -> str:
    return fit_text(text, MAX_LABEL_ID) or "0"


def _channel(notice: ChannelTold) -> ChannelTold:
    return ChannelTold(made_fit(notice.channel))


def _posts(notice: PostsTold) -> PostsTold:
    address = fit_address(notice.channel)
    posts = notice.posts[:MAX_POSTS]
    for post in posts:
        fit_post(address, post)
    return PostsTold(address, posts)


def _person(notice: PersonChanged) -> PersonChanged:
    return replace(
        notice,
        person=fit_address(notice.person),
        time=fit_time(notice.time, _now()),
        identity=fit_identity(notice.identity),
        full_name=fit_text(notice.full_name, MAX_SHOWN_NAME),
        first_name=fit_text(notice.first_name, MAX_SHOWN_NAME),
        push_name=None if notice.push_name is None else fit_text(notice.push_name, MAX_SHOWN_NAME),
        about=None if notice.about is None else fit_text(notice.about, MAX_DETAIL),
        picture_id=None if notice.picture_id is None else fit_text(notice.picture_id, MAX_ID),
    )


def _unknown(notice: UnknownNotice) -> UnknownNotice:
    return UnknownNotice(fit_text(notice.kind, MAX_KIND))


def _now() -> int:
    return time.time_ns() // 1000


BOUNDS: Mapping[type, Callable[[Any], Any]] = {
    CallEnded: _ended,
    CallOffered: _call,
    ChannelTold: _channel,
    PostsTold: _posts,
    ChatEmptied: _chat_emptied,
    ChatRead: _chat_read,
    ChatSet: _chat_set,
    LabelSet: _label_set,
    Labelled: _labelled,
    PersonChanged: _person,
    PresenceShown: _presence,
    TypingShown: _typing,
    UnknownNotice: _unknown,
    **OF_GROUPS,
}
"""By the kind of notice."""
