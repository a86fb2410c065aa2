"""The network in memory, for the contract that every driver keeps: the world plays the network's part."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from mesh_session_node.drivers.interface.channel_actions import ListedPost
from mesh_session_node.drivers.interface.chat_actions import LabelFacts
from mesh_session_node.drivers.interface.chat_notices import (
    ChatEmptied,
    ChatRead,
    ChatSet,
    Labelled,
    LabelSet,
)
from mesh_session_node.drivers.interface.contact_notices import PersonChanged
from mesh_session_node.drivers.interface.content import Identity, Incoming, Reference
from mesh_session_node.drivers.interface.groups import GroupInfo, JoinRequest, Member, Named
from mesh_session_node.drivers.interface.notices import (
    CallEnded,
    CallOffered,
    ChannelTold,
    Notice,
    PostsTold,
    PresenceShown,
    TypingShown,
)
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End, Failure, Refusal, Refused
from mesh_session_node.drivers.interface.pairing import Paired, PairingCode
from mesh_session_node.drivers.memory.actions import Act
from mesh_session_node.drivers.memory.channel_actions import MemoryChannel
from mesh_session_node.drivers.memory.driver import MemoryDriver
from mesh_session_node.drivers.memory.group_actions import OWN
from mesh_session_node.drivers.memory.rows import RowsDriver, first_rows
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.v1 import call_pb2, channel_pb2, content_pb2, group_pb2, message_pb2
from sessionmesh.v1.profile_pb2 import BusinessProfile
from tests.support.eventually import eventually
from tests.support.proxy_server import ProxyServer

UNKNOWN = "hidden:404"
"""An address that no network knows."""
REFUSED_WITH = 131_047


class MemoryWorld:
    """Implements `DriverWorld`."""

    kind: ClassVar[type[MemoryDriver]] = MemoryDriver
    phone = "+15550000001"

    def __init__(self) -> None:
        self.driver = self.kind()
        self._groups: dict[str, str] = {}
        self._sequence = 0
        self._told = 0
        self._calls = 0
        self._callers: dict[str, CallOffered] = {}
        self._refusal: Failure | None = None

    async def paired(self) -> Paired:
        return Paired(self.driver.pair_at_once(self.phone))

    async def accept(self, code: PairingCode) -> None:
        assert self.driver.pairing.codes[-1] == code
        self.driver.pairing.accept(self.phone)

    async def accept_with_passkey(self, code: PairingCode) -> None:
        assert self.driver.pairing.codes[-1] == code
        self.driver.pairing.ask_passkey(b"{}")
        self.driver.pairing.compare("1234")
        self.driver.pairing.accept(self.phone)

    def passkey_answer(self, _options: bytes) -> bytes:
        return b'{"id": "x"}'

    async def refuse_pairing(self) -> None:
        pairings = await eventually(lambda: self.driver.pairings)
        pairings[-1].refuse("no such number")

    async def time_out_pairing(self) -> None:
        self.driver.pairing.time_out()

    async def answer(self) -> None:
        link = self.driver.link
        if link.logging_out:
            link.end(End.LOGGED_OUT)
        for message in [*link.sent]:
            if message.to == UNKNOWN:
                link.reject(message.network_id, Failure.UNKNOWN_RECIPIENT)
                continue
            if self._refusal is not None:
                link.reject(message.network_id, self._refusal, code=REFUSED_WITH)
                continue
            link.ack(message.network_id, recipient=_identity(message.to))
            self._sequence += 1
            member = self._groups.get(message.to, "")
            if message.audience is not None:
                (member,) = message.audience.addresses
            link.receipt(
                message.network_id, member=member, sequence=self._sequence, identity=_identity(member)
            )
        link.sent.clear()

    async def group_of(self, *people: str) -> str:
        self._groups["group:1"] = people[0]
        return "group:1"

    async def group_run_by(self, person: str) -> str:
        self.driver.link.refusal = Refused(Refusal.NOT_AN_ADMIN)
        members = [Member(Named(person), group_pb2.GROUP_ROLE_OWNER), Member(Named(OWN))]
        self.driver.of_groups.put(GroupInfo(address="group:1", name="Theirs", members=members))
        return await self.group_of(person)

    async def ask_to_join(self, group: str, code: str, person: str) -> None:
        asking = self.driver.of_groups.requests.setdefault(group, [])
        asking.append(JoinRequest(Named(person), 1))

    async def act_in_group(self, person: str, query: wire.Query) -> wire.Answer:
        raise NotImplementedError

    async def refuse_being_added(self, person: str) -> None:
        self.driver.of_groups.unaddable.add(person)

    async def channel_of_others(self, name: str, *posts: str) -> str:
        number = len(self.driver.channels) + 1
        channel = channel_pb2.Channel(
            address=f"channel:{number}",
            name=name,
            state=channel_pb2.CHANNEL_STATE_ACTIVE,
            own_role=channel_pb2.CHANNEL_ROLE_GUEST,
            follower_count=9,
            invite_code=f"invite-{number}",
        )
        self.driver.channels[channel.address] = MemoryChannel(channel)
        for text in posts:
            await self.post_in(channel.address, text)
        return channel.address

    async def invite_to(self, channel: str) -> str:
        return self.driver.channels[channel].channel.invite_code

    async def post_in(self, channel: str, text: str) -> str:
        posts = self.driver.channels[channel].posts
        post = channel_pb2.ChannelPost()
        post.ref.network_message_id, post.ref.chat = f"POST{len(posts)}", channel
        post.content.text.body = text
        posts.append(ListedPost(len(posts) + 1, post))
        network_id = post.ref.network_message_id
        if self.driver.links:
            self.driver.link.receive(Incoming(network_id, channel, channel, "", post.content, 1))
        return network_id

    async def post_file_in(self, channel: str, data: bytes) -> None:
        content = content_pb2.Content(image=content_pb2.ImageContent())
        blob = await self.file(data)
        self.driver.link.receive(Incoming("POST1", channel, channel, "", content, 1, blob=blob))

    async def edit_in(self, channel: str, post: str, text: str) -> None:
        (listed,) = [one for one in self._posts(channel) if one.ref.network_message_id == post]
        listed.content.text.body = text
        edited = content_pb2.Content(text=content_pb2.TextContent(body=text))
        unknown = content_pb2.Content(unknown=content_pb2.UnknownContent(kind="edit"))
        target = Reference(post, channel, channel)
        self.driver.link.receive(
            Incoming(f"{post}-edit", channel, channel, "", unknown, 1, target=target, edited=edited)
        )

    async def react_in(self, channel: str, post: str, emoji: str, count: int, views: int) -> None:
        (listed,) = [one for one in self._posts(channel) if one.ref.network_message_id == post]
        listed.view_count = views
        listed.reactions.add(emoji=emoji, count=count)
        self.driver.link.notify(PostsTold(channel, [listed]))

    async def refuse_posts(self) -> None:
        self._refusal = Failure.NOT_A_MEMBER

    async def rename(self, channel: str, name: str) -> None:
        told = self.driver.channels[channel].channel
        told.name = name
        self.driver.link.notify(ChannelTold(told), 1)

    def _posts(self, channel: str) -> list[channel_pb2.ChannelPost]:
        return [one.post for one in self.driver.channels[channel].posts]

    async def let_it_be_late(self) -> None:
        self.driver.link.refusal = Refused(Refusal.TOO_LATE)

    async def seen(self) -> list[str]:
        return [said for act in self.driver.link.acts for said in _said(act)]

    async def write_to(self, sender: str, text: str) -> None:
        content = content_pb2.Content(text=content_pb2.TextContent(body=text))
        self.driver.link.receive(Incoming("IN1", sender, sender, "", content, 1, identity=_identity(sender)))

    async def write_from_phone(self, to: str, text: str) -> None:
        content = content_pb2.Content(text=content_pb2.TextContent(body=text))
        own = f"phone:{self.phone}"
        self.driver.link.receive(
            Incoming("IN1", to, own, "", content, 1, from_account=True, identity=_identity(to))
        )

    async def answer_to(self, sender: str, quoted: str) -> None:
        said = content_pb2.Content(text=content_pb2.TextContent(body=quoted))
        reply_to = Reference("M1", "", f"phone:{self.phone}", said)
        content = content_pb2.Content(text=content_pb2.TextContent(body="yes"))
        self.driver.link.receive(Incoming("IN1", sender, sender, "", content, 1, reply_to=reply_to))

    async def show_typing(
        self, person: str, state: message_pb2.TypingState.ValueType, group: str = ""
    ) -> None:
        self.driver.link.notify(TypingShown(group or person, person, state, _identity(person)))

    async def on_phone(self, chat: str, **act: Any) -> None:
        ((done, value),) = act.items()
        self._notify(_ON_PHONE[done](chat, value))

    async def give_history(self, chat: str, messages: int) -> None:
        content = content_pb2.Content(text=content_pb2.TextContent(body="once"))
        self.driver.link.past = [
            Incoming(f"PAST{at}", chat, chat, "", content, 1 + at, history=True) for at in range(messages)
        ]

    async def show_presence(self, person: str, *, online: bool, last_seen: int | None = None) -> None:
        self.driver.link.notify(PresenceShown(person, online, last_seen, _identity(person)))

    async def shows_online(self) -> bool:
        shown = [act.arguments[0] for act in self.driver.link.acts if act.name == "show_online"]
        return bool(shown and shown[-1])

    async def ringing_calls(self) -> int:
        rejected = {act.arguments[0] for act in self.driver.link.acts if act.name == "reject_call"}
        return len(self._callers.keys() - rejected)

    async def place_call(self, caller: str, *, video: bool) -> str:
        self._calls += 1
        call = CallOffered(f"CALL{self._calls}", caller, 1, video=video, identity=_identity(caller))
        self._callers[call.call_id] = call
        self._notify(call)
        return call.call_id

    async def end_call(self, call_id: str, cause: call_pb2.CallEndCause.ValueType) -> None:
        call = self._callers.pop(call_id)
        self._notify(CallEnded(call_id, call.caller, 2, cause, identity=call.identity))

    def _notify(self, notice: Notice) -> None:
        self._told += 1
        self.driver.link.notify(notice, self._told)

    async def unacknowledged_notices(self) -> int:
        return self._told - len(self.driver.link.notices_stored)

    async def refuse(self, failure: Failure) -> int:
        self._refusal = failure
        return REFUSED_WITH

    async def unacknowledged(self) -> int:
        return int("IN1" not in self.driver.link.acknowledged)

    async def end(self, end: End) -> None:
        self.driver.link.end(end)

    async def refuse_logins(self, end: End) -> None:
        self.driver.refusal = ConnectionEnded(end)

    async def go_away(self) -> None:
        self.driver.refusal = ConnectionEnded(End.LOST)
        for pairing in self.driver.pairings:
            pairing.lose()

    async def file(self, data: bytes) -> bytes:
        self.driver.blobs["file"] = data
        return b"file"

    async def without_file(self) -> bytes:
        return b"nothing"

    async def device(self) -> tuple[str, bool]:
        device = self.driver.pairing.device
        return device.name or "Memory", device.with_history

    def went_through(self, server: ProxyServer, connections: int) -> bool:
        made = [link.proxy for link in self.driver.links]
        made += [pairing.device.proxy for pairing in self.driver.pairings]
        return sum(proxy is not None and proxy.port == server.port for proxy in made) == connections

    async def refuse_proxy(self, _server: ProxyServer) -> None:
        self.driver.refusal = ConnectionEnded(End.LOST, "the proxy refused the login")

    async def show(
        self, phone: str, *, about: str = "", picture: bytes = b"", business: bool = False
    ) -> None:
        link, person = self.driver.link, f"phone:{phone}"
        link.abouts[person], link.pictures[person] = about, picture
        if business:
            link.businesses[person] = BusinessProfile()
        self._notify(
            PersonChanged(person, 1, _identity(person), about=about, picture_id="1" if picture else "")
        )

    async def save_on_phone(self, phone: str, full_name: str, first_name: str = "") -> None:
        person = f"phone:{phone}"
        self._notify(PersonChanged(person, 1, _identity(person), bool(full_name), full_name, first_name))

    async def register(self, phone: str, *, on_network: bool) -> None:
        if on_network:
            self.driver.users[phone] = phone.removeprefix("+")


class RowsWorld(MemoryWorld):
    """The same with a state in rows."""

    kind = RowsDriver

    async def paired(self) -> Paired:
        state = self.driver.pair_at_once(self.phone)
        return Paired(state, first_rows(state.stored))


@asynccontextmanager
async def memory_world() -> AsyncIterator[MemoryWorld]:
    yield MemoryWorld()


@asynccontextmanager
async def rows_world() -> AsyncIterator[RowsWorld]:
    yield RowsWorld()


def _said(act: Act) -> list[str]:
    """An act, as `seen_in` has it."""
    if act.name in ("edit", "revoke", "pin"):
        return [f"{act.name} {act.arguments[1].network_id}"]
    if act.name == "mark_read":
        return [f"{'played' if act.arguments[3] else 'read'} {one}" for one in act.arguments[2]]
    if act.name == "show_typing":
        return [message_pb2.TypingState.Name(act.arguments[1]).removeprefix("TYPING_STATE_").lower()]
    return ["app state"]


def _identity(address: str) -> Identity | None:
    """What the network in memory knows of a person besides the address."""
    return Identity(phone=address[6:], user_id=address[7:]) if address.startswith("phone:") else None


def _labelled(chat: str, given: Mapping[str, Any]) -> Labelled:
    return Labelled(
        given["label_id"], chat, given.get("labelled", False), given.get("network_message_id", "")
    )


def _label(_chat: str, given: Mapping[str, Any]) -> LabelSet:
    label = LabelFacts(given["id"], given.get("name", ""), given.get("color", 0))
    return LabelSet(label, deleted=given.get("deleted", False))


_ON_PHONE: Mapping[str, Callable[[str, Any], Notice]] = {
    "archive": lambda chat, value: ChatSet(chat, archived=value, pinned=False if value else None),
    "mute_until_us": lambda chat, value: ChatSet(chat, mute_until=value),
    "pin": lambda chat, value: ChatSet(chat, pinned=value),
    "mark_unread": lambda chat, value: ChatSet(chat, marked_unread=True) if value else ChatRead(chat),
    "read": ChatRead,
    "clear": lambda chat, _: ChatEmptied(chat, deleted=False),
    "delete": lambda chat, _: ChatEmptied(chat, deleted=True),
    "disappear_after_seconds": lambda chat, value: ChatSet(chat, disappear_after=value),
    "label": _label,
    "labelling": _labelled,
}
