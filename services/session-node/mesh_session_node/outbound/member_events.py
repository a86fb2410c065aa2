"""Events that name many members of a group, made of pieces: a member's is serialised once, then copied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from mesh_session_node.context.events import timestamp
from sessionmesh.v1 import event_pb2
from sessionmesh.v1.common_pb2 import Person

MAX_MEMBERS = 256
"""Members whom one event names."""
MAX_SHOWN = 200_000
"""Members of all groups of an account whose pieces are kept, about 200 bytes each."""


class ShownMembers:
    """The members whom an account's receipts name, as events show them."""

    __slots__ = ("_pieces",)

    def __init__(self) -> None:
        self._pieces: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._pieces)

    def show(self, address: str, person: Person) -> None:
        """Events show this person at the address from now on."""
        self._pieces[address] = event_pb2.MemberStatus(member=person).SerializeToString()

    def unknown(self, members: Iterable[str]) -> list[str]:
        """Those of whom nothing was said yet."""
        pieces = self._pieces
        return [member for member in members if member not in pieces]

    def serialised(self, members: Mapping[str, int]) -> Iterator[bytes]:
        """`MessageStatusEvent.members` of events of `MAX_MEMBERS` each: these, each since its time in
        microseconds since the epoch.
        """
        pieces, times = self._pieces, {at: _time(at) for at in {*members.values()}}
        whole: list[bytes] = []
        for member, at in members.items():
            piece, time = pieces[member], times[at]
            size = len(piece) + len(time)
            whole += (_HEADS[size] if size < len(_HEADS) else _head(size), piece, time)
        for start in range(0, len(whole), 3 * MAX_MEMBERS):
            yield b"".join(whole[start : start + 3 * MAX_MEMBERS])


def status_with(members: bytes) -> bytes:
    """What follows a serialised event, so that its `message_status` has these members."""
    return _STATUS + _varint(len(members)) + members


@lru_cache(1_024)  # many have a message at the same time
def _time(micros: int) -> bytes:
    return event_pb2.MemberStatus(status_time=timestamp(micros)).SerializeToString()


def _varint(number: int) -> bytes:
    whole = bytearray()
    while number > 0x7F:
        whole.append(number & 0x7F | 0x80)
        number >>= 7
    whole.append(number)
    return bytes(whole)


def _head(size: int) -> bytes:
    return _MEMBERS + _varint(size)


def _tag(message: str, field: str) -> bytes:
    descriptor = event_pb2.DESCRIPTOR.message_types_by_name[message]
    return _varint(descriptor.fields_by_name[field].number << 3 | 2)


_STATUS = _tag("Event", "message_status")
_MEMBERS = _tag("MessageStatusEvent", "members")
_HEADS = [_head(size) for size in range(1_024)]
