"""Messages as a network brings them to an account in memory, and what became of them."""

from __future__ import annotations

from typing import Any

from mesh_core.ids import Prefix, encode, new_uuid
from mesh_session_node.drivers.interface.content import Incoming, Reference
from mesh_session_node.journal import (
    Event,
    InboundMessage,
)
from mesh_session_node.outbound.outgoing import Outgoing
from sessionmesh.v1 import content_pb2, event_pb2
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import Person
from tests.support.memory_host import OneAccount, content_of

ADA = "phone:+4915100000009"
STRANGER = "phone:+4915100000008"
FIRST = new_uuid()
TIME = 1_700_000_000_000_000


def incoming(text: str = "good morning", **fields: Any) -> Incoming:
    values = {
        "network_id": "IN1",
        "chat": ADA,
        "sender": ADA,
        "push_name": "Ada",
        "time": 1_700_000_000_000_000,
    }
    return Incoming(**{**values, "content": content_of(text), **fields})


def events(account: OneAccount, type_: str) -> list[event_pb2.Event]:
    """The stored events of one type."""
    return [event_pb2.Event.FromString(event.body) for event in account.stored(Event) if event.type == type_]


def with_earlier_message(account: OneAccount, *, chat: str = ADA, sender: str = ADA, **columns: Any) -> str:
    """A message that came earlier, by the network's id `EARLIER`; our id of it."""
    earlier = new_uuid()
    stored = pb.Message(content=content_of("how are you?"), sender=Person(address=sender))
    content = stored.SerializeToString()
    account.messages.add(earlier, "EARLIER", pb.DIRECTION_INBOUND, content, chat, **columns)
    return encode(Prefix.MESSAGE, earlier)


def with_own_message(account: OneAccount, out: Outgoing, chat: str = ADA) -> None:
    """A message that the account sent is stored."""
    content = out.request.SerializeToString()
    account.messages.add(out.uuid, out.network_id, pb.DIRECTION_OUTBOUND, content, chat)


def stored_messages(account: OneAccount) -> list[pb.Message]:
    return [pb.Message.FromString(row.content) for row in account.stored(InboundMessage)]


EARLIER = Reference("EARLIER", ADA, ADA)
UNKNOWN = Reference("UNKNOWN", ADA, ADA)
REVOKED = content_pb2.Content(revoked=content_pb2.RevokedContent())
HEART = content_pb2.Content(reaction=content_pb2.ReactionContent(emoji="❤"))
CHANGES = {
    "edit": incoming("", target=EARLIER, edited=content_of("how do you do?")),
    "revocation": incoming(content=REVOKED, target=EARLIER),
    "reaction": incoming(content=HEART, target=EARLIER),
}
"""What is about an earlier message."""
