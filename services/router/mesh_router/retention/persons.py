"""Who a person is in stored rows: all addresses that belong together, and which rows name one of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from sessionmesh.v1 import common_pb2


class Identities:
    """The addresses of one person, as far as stored rows connect them; it grows while rows are learnt."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = {*addresses}

    def marks(self) -> list[bytes]:
        """Bytes one of which is in every stored message, event or JSON that names the person. They may be in
        others, too.
        """
        return sorted({address.partition(":")[2].lstrip("+").encode() for address in self.addresses})

    def is_one(self, person: common_pb2.Person) -> bool:
        """Whether it is this person."""
        return not self.addresses.isdisjoint(_addresses(person))

    def named_in(self, message: Message) -> bool:
        """Whether the message names the person anywhere."""
        return any(
            self.is_one(found) if isinstance(found, common_pb2.Person) else found in self.addresses
            for found in _parts(message)
        )

    def named_in_json(self, value: Any) -> bool:
        """The same for decoded JSON, where a person is an object with the fields of a Person."""
        if isinstance(value, dict):
            named = {f"{kind}:{value[field]}" for kind, field in _FIELDS.items() if field in value}
            return not self.addresses.isdisjoint(named) or any(map(self.named_in_json, value.values()))
        if isinstance(value, list):
            return any(map(self.named_in_json, value))
        return isinstance(value, str) and value in self.addresses

    def learn_together(self, person: common_pb2.Person) -> None:
        """Take in the addresses of somebody who has one of the known."""
        if self.is_one(person):
            self.addresses |= _addresses(person)

    def learn(self, message: Message) -> None:
        """Take in the other addresses of whoever has one of the known."""
        for found in _parts(message):
            if isinstance(found, common_pb2.Person):
                self.learn_together(found)


_FIELDS = {"phone": "phone", "user": "user_id", "hidden": "hidden_id", "username": "username"}
"""By kind of address the field of a Person that has what stands behind the colon."""


def _addresses(person: common_pb2.Person) -> set[str]:
    parts = {kind: getattr(person, field) for kind, field in _FIELDS.items()}
    addresses = {f"{kind}:{value}" for kind, value in parts.items() if value}
    if person.address:
        addresses.add(person.address)
    return addresses


def _parts(message: Message) -> Iterator[common_pb2.Person | str]:
    """Every person and every text in a message."""
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                values = list(value.values())
            else:
                values = list(value) if field.is_repeated else [value]
            for part in values:
                if isinstance(part, common_pb2.Person):
                    yield part
                elif isinstance(part, Message):
                    yield from _parts(part)
                elif isinstance(part, str):
                    yield part
        elif field.type == FieldDescriptor.TYPE_STRING:
            yield from value if field.is_repeated else [value]
