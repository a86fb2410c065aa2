"""What a link does at the network in memory beside sending: it is noted, and refused as the test says."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from mesh_session_node.drivers.interface.chat_actions import HistoryPage, LabelFacts
from mesh_session_node.drivers.interface.contact_actions import (
    BlockedPerson,
    NumberStatus,
    PersonShown,
    Picture,
)
from mesh_session_node.drivers.interface.content import Identity, Incoming, Reference
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, Refusal, Refused
from mesh_session_node.drivers.interface.profile_actions import OwnProfile
from mesh_session_node.drivers.memory.channel_actions import MemoryChannel, MemoryChannelActions
from mesh_session_node.drivers.memory.group_actions import MemoryGroupActions
from sessionmesh.v1 import message_pb2, profile_pb2
from sessionmesh.v1.profile_pb2 import BusinessProfile, PrivacySettings


@dataclass(frozen=True, slots=True)
class Act:
    """What was asked for: the name of the protocol's method, and its arguments."""

    name: str
    arguments: tuple[Any, ...]


class MemoryActions(MemoryGroupActions, MemoryChannelActions):
    """Implements `Acting`. `users` has the user id of each phone number that is on the network."""

    def __init__(self, users: Mapping[str, str], channels: dict[str, MemoryChannel]) -> None:
        super().__init__()
        self.channels = channels
        self._users = users
        self.ended: ConnectionEnded | None = None
        self.acts: list[Act] = []
        """What was done, in order."""
        self.refusal: Refused | None = None
        """While set, nothing is done, and this is why."""
        self.blocked: set[str] = set()
        """Addresses of whom the account has blocked."""
        self.contacts: dict[str, tuple[str, str]] = {}
        """The address book: whole and first names by address."""
        self.pictures: dict[str, bytes] = {}
        """People's pictures, by address."""
        self.abouts: dict[str, str] = {}
        """People's texts, by address."""
        self.businesses: dict[str, BusinessProfile] = {}
        """What companies show, by address."""
        self.profile = OwnProfile("", "", "")
        self.privacy_settings = PrivacySettings(read_receipts=True)
        self.past: list[Incoming] = []
        """What the phone still has of chats."""

    def done(self, name: str, *arguments: Any) -> None:
        """Note an act. Raises `Refused`, `ConnectionEnded`."""
        if self.ended is not None:
            raise self.ended
        if self.refusal is not None:
            raise self.refusal
        self.acts.append(Act(name, arguments))

    async def edit(self, network_id: str, target: Reference, payload: bytes) -> None:
        self.done("edit", network_id, target, payload)

    async def revoke(self, network_id: str, target: Reference) -> None:
        self.done("revoke", network_id, target)

    async def pin(self, network_id: str, target: Reference, seconds: int) -> None:
        self.done("pin", network_id, target, seconds)

    async def star(self, target: Reference, *, starred: bool) -> None:
        self.done("star", target, starred)

    async def delete_for_me(self, target: Reference, *, with_media: bool) -> None:
        self.done("delete_for_me", target, with_media)

    async def mark_read(self, chat: str, sender: str, network_ids: Sequence[str], *, played: bool) -> None:
        self.done("mark_read", chat, sender, tuple(network_ids), played)

    async def show_typing(self, chat: str, state: message_pb2.TypingState.ValueType) -> None:
        self.done("show_typing", chat, state)

    async def show_online(self, *, online: bool) -> None:
        self.done("show_online", online)

    async def watch_presence(self, person: str) -> None:
        self._known(person)
        self.done("watch_presence", person)

    async def reject_call(self, call_id: str, caller: str) -> None:
        self.done("reject_call", call_id, caller)

    async def check_numbers(self, phones: Sequence[str]) -> Sequence[NumberStatus]:
        self.done("check_numbers", tuple(phones))
        users = self._users
        return [
            NumberStatus(phone, phone in users, Identity(user_id=users.get(phone, ""))) for phone in phones
        ]

    async def set_blocked(self, person: str, *, blocked: bool) -> None:
        self._known(person)
        self.done("set_blocked", person, blocked)
        (self.blocked.add if blocked else self.blocked.discard)(person)

    async def look_up_person(self, person: str) -> PersonShown:
        self._known(person)
        self.done("look_up_person", person)
        data = self.pictures.get(person, b"")
        return PersonShown(
            self._identity(person),
            about=self.abouts.get(person, ""),
            picture_id=_picture_id(data),
            business=person in self.businesses,
        )

    async def resolve_people(self, people: Sequence[str]) -> Sequence[Identity | None]:
        self.done("resolve_people", tuple(people))
        return [self._identity(one) if self._is_known(one) else None for one in people]

    async def save_contact(self, person: str, full_name: str, first_name: str) -> None:
        self._known(person)
        self.done("save_contact", person, full_name, first_name)
        self.contacts[person] = full_name, first_name

    async def delete_contact(self, person: str) -> None:
        self.done("delete_contact", person)
        self.contacts.pop(person, None)

    async def picture(self, person: str, *, preview: bool, known: str) -> Picture | None:
        self._known(person)
        self.done("picture", person, preview, known)
        data = self.pictures.get(person, b"")
        if not data:
            return None
        picture_id = _picture_id(data)
        return Picture(picture_id, b"" if picture_id == known else data)

    async def business_profile(self, person: str) -> BusinessProfile | None:
        self._known(person)
        self.done("business_profile", person)
        return self.businesses.get(person)

    async def own_profile(self) -> OwnProfile:
        self.done("own_profile")
        return self.profile

    async def set_name(self, name: str) -> None:
        self.done("set_name", name)
        self.profile = replace(self.profile, name=name)

    async def set_about(self, about: str) -> None:
        self.done("set_about", about)
        self.profile = replace(self.profile, about=about)

    async def set_picture(self, picture: bytes) -> None:
        self.done("set_picture", picture)
        self.profile = replace(self.profile, picture_id=_picture_id(picture))

    async def set_business_profile(self, profile: BusinessProfile, fields: Collection[str]) -> None:
        self.done("set_business_profile", profile, frozenset(fields))
        self.businesses = dict.fromkeys(self.businesses, profile)

    async def privacy(self) -> PrivacySettings:
        self.done("privacy")
        return self.privacy_settings

    async def set_privacy(self, settings: PrivacySettings, fields: Collection[str]) -> None:
        if "online" in fields and settings.online not in _ONLINE:
            raise Refused(Refusal.OTHER, "no such audience")
        self.done("set_privacy", settings, frozenset(fields))
        for field in fields:
            self.privacy_settings.ClearField(field)  # type: ignore[arg-type]  # a name of a field
        chosen = PrivacySettings()
        chosen.CopyFrom(settings)
        for field in PrivacySettings.DESCRIPTOR.fields_by_name:
            if field not in fields:
                chosen.ClearField(field)  # type: ignore[arg-type]
        self.privacy_settings.MergeFrom(chosen)

    def _is_known(self, person: str) -> bool:
        return not person.startswith("phone:") or person[6:] in self._users

    def _known(self, person: str) -> None:
        if not self._is_known(person):
            raise Refused(Refusal.UNKNOWN_PERSON)

    def _identity(self, person: str) -> Identity:
        phone = person.removeprefix("phone:")
        return Identity(phone, self._users.get(phone, "")) if phone != person else Identity()

    async def list_blocked(self) -> Sequence[BlockedPerson]:
        self.done("list_blocked")
        return [BlockedPerson(person, Identity()) for person in self.blocked]

    async def archive_chat(self, chat: str, last: Reference | None, *, archived: bool) -> None:
        self.done("archive_chat", chat, last, archived)

    async def mute_chat(self, chat: str, until: int) -> None:
        self.done("mute_chat", chat, until)

    async def pin_chat(self, chat: str, *, pinned: bool) -> None:
        self.done("pin_chat", chat, pinned)

    async def mark_chat(self, chat: str, last: Reference | None, *, unread: bool) -> None:
        self.done("mark_chat", chat, last, unread)

    async def clear_chat(self, chat: str, last: Reference | None) -> None:
        self.done("clear_chat", chat, last)

    async def delete_chat(self, chat: str, last: Reference | None) -> None:
        self.done("delete_chat", chat, last)

    async def set_disappearing(self, chat: str, seconds: int) -> None:
        self.done("set_disappearing", chat, seconds)

    async def put_label(self, label: LabelFacts) -> None:
        self.done("put_label", label)

    async def delete_label(self, label: LabelFacts) -> None:
        self.done("delete_label", label)

    async def label_chat(self, label_id: str, chat: str, *, labelled: bool) -> None:
        self.done("label_chat", label_id, chat, labelled)

    async def label_message(self, label_id: str, target: Reference, *, labelled: bool) -> None:
        self.done("label_message", label_id, target, labelled)

    async def fetch_history(self, chat: str, before: Reference, most: int) -> HistoryPage:
        self.done("fetch_history", chat, before, most)
        older = [one for one in self.past if one.chat == chat and (one.time, one.network_id) < _at(before)]
        older.sort(key=lambda one: (one.time, one.network_id), reverse=True)
        return HistoryPage(older[:most], len(older) <= most)


def _at(before: Reference) -> tuple[int, str]:
    return before.time or sys.maxsize, before.network_id


_ONLINE = (profile_pb2.PRIVACY_AUDIENCE_EVERYONE, profile_pb2.PRIVACY_AUDIENCE_SAME_AS_LAST_SEEN)


def _picture_id(data: bytes) -> str:
    return sha256(data).hexdigest()[:16] if data else ""
