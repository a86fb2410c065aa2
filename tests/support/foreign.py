"""Messages as hostile people and networks send them: every field at the edge of its type, or beyond."""

from __future__ import annotations

import random
from typing import Any

from mesh_session_node.drivers.interface.content import Identity, Incoming, Reference
from mesh_session_node.drivers.interface.notices import (
    CallEnded,
    CallOffered,
    Notice,
    PresenceShown,
    TypingShown,
    UnknownNotice,
)
from sessionmesh.v1 import content_pb2
from tests.support.fuzz import edges
from tests.support.fuzz.random_requests import Dice

KINDS = [field.name for field in content_pb2.Content.DESCRIPTOR.fields]
TEXTS = (*edges.STRINGS, "\ud800", "a\udfff\0", "n" * 100_000, "phone:+4915100000009")
ADDRESSES = (*edges.ADDRESSES, *TEXTS, "group:" + "x" * 5_000, "username:A..b")
TIMES = (0, -1, 1, 1_700_000_000_000_000, 2**62, 2**64 - 1, 2**80, -(2**70))
NUMBERS = (0, 1, -1, 2**31, 2**40, 2**64 - 1)


def hostile_content(seed: str, kind: str) -> content_pb2.Content:
    """A content of this kind; the same one for one seed."""
    content = content_pb2.Content()
    field = content_pb2.Content.DESCRIPTOR.fields_by_name[kind]
    assert field.message_type is not None
    getattr(content, kind).CopyFrom(Dice(seed, {}, ("someone",)).message(field.message_type))
    getattr(content, kind).SetInParent()
    return content


def hostile_message(seed: int) -> Incoming:
    """A message from the network; the same one for one seed."""
    dice = random.Random(seed)
    content = hostile_content(f"content {seed}", KINDS[seed % len(KINDS)])

    def reference() -> Reference | None:
        if dice.random() < 0.6:
            return None
        quoted = hostile_content(f"quoted {seed}", dice.choice(KINDS))
        return Reference(dice.choice(TEXTS), dice.choice(ADDRESSES), dice.choice(ADDRESSES), quoted)

    values: dict[str, Any] = {
        "network_id": dice.choice((f"ID{seed}", dice.choice(TEXTS))),
        "chat": dice.choice(ADDRESSES),
        "sender": dice.choice(ADDRESSES),
        "push_name": dice.choice(TEXTS),
        "time": dice.choice(TIMES),
        "from_account": dice.random() < 0.2,
        "identity": dice.choice((None, Identity(*(dice.choice(TEXTS) for _ in range(4))))),
        "reply_to": reference(),
        "target": reference(),
        "mentions": dice.choices(ADDRESSES, k=dice.choice((0, 3, 400))),
        "forward_score": dice.choice(NUMBERS),
        "expire_seconds": dice.choice(NUMBERS),
        "album": dice.choice(TEXTS),
        "blob": dice.choice((None, b"blob")),
        "edited": hostile_content(f"edited {seed}", "text") if dice.random() < 0.1 else None,
    }
    return Incoming(content=content, **values)


def hostile_notice(seed: int) -> Notice:
    """Something that the network tells beside messages; the same one for one seed."""
    dice = random.Random(seed)
    who = dice.choice((None, Identity(*(dice.choice(TEXTS) for _ in range(4)))))
    person, call_id = dice.choice(ADDRESSES), dice.choice(TEXTS)
    numbers: Any = dice.choice(NUMBERS)  # of enums: a driver hands on what it read
    kinds: tuple[Notice, ...] = (
        TypingShown(dice.choice(ADDRESSES), person, numbers, who),
        PresenceShown(person, dice.random() < 0.5, dice.choice((None, *TIMES)), who),
        CallOffered(call_id, person, dice.choice(TIMES), dice.choice(ADDRESSES), identity=who),
        CallEnded(call_id, person, dice.choice(TIMES), numbers, dice.choice(ADDRESSES), who),
        UnknownNotice(dice.choice(TEXTS)),
    )
    return kinds[seed % len(kinds)]
