"""Receipts of groups' members. A message to a thousand people is confirmed by all of them at about the same
time: what comes of one message is gathered for a moment, and stored and told at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import structlog
from asyncpg.pgproto.pgproto import UUID

from mesh_session_node.drivers.interface.content import Identity
from mesh_session_node.drivers.interface.outcomes import Receipt
from mesh_session_node.outbound.outgoing import Outgoing
from sessionmesh.v1 import message_pb2 as pb

logger = structlog.get_logger(__name__)

HOLD_SECONDS = 0.1
"""What comes of a message waits until for so long nothing more has come."""
MAX_HOLD_SECONDS = 1.5
"""It waits no longer than that."""
MAX_HEARD = 500_000
"""Members of all messages of a process that are remembered, about 100 bytes each; what was heard of others is
read when there is more of them.
"""
MAX_MEMBERS = 20_000
"""Members of one message who are heard; a group has 1,024, but anybody may say that they have a message."""
STATUS_OF = {
    Receipt.DELIVERED: pb.MESSAGE_STATUS_DELIVERED,
    Receipt.READ: pb.MESSAGE_STATUS_READ,
    Receipt.PLAYED: pb.MESSAGE_STATUS_PLAYED,
}
_UPWARDS = (*STATUS_OF.values(),)
_IN_TURN = 4_096
"""Members that are stored in one turn of the loop, and a message more."""
_BETWEEN_TURNS = 0.005


class Heard:
    """Who has one message, has read it and has played it, as it is stored or is about to be."""

    __slots__ = ("_held", "_levels", "changed", "count", "out", "since")

    def __init__(self, out: Outgoing) -> None:
        self.out = out
        self.since = 0.0
        """When the first of what is held came, in the loop's time."""
        self.changed = False
        """Something came since it was last looked at."""
        self.count = 0
        self._levels: dict[int, set[str]] = {}
        self._held: dict[int, dict[str, int]] = {}

    def stored(self, status: int, members: Iterable[str]) -> None:
        """It is stored that these members have this status."""
        for below in _UPWARDS:
            if below <= status:
                self._levels.setdefault(below, set()).update(members)
        self._count()

    def take(self, status: pb.MessageStatus.ValueType, members: Sequence[str], times: Sequence[int]) -> bool:
        """Hold what is news of members who have this status since these times; whether anything is."""
        have = self._levels.setdefault(status, set())
        if len(have) + len(members) > MAX_MEMBERS:
            members = members[: MAX_MEMBERS - len(have)]
        before = len(have)
        if have.isdisjoint(members):
            have.update(members)
            news = dict(zip(members, times, strict=False))
        else:
            news = {member: at for member, at in zip(members, times, strict=False) if member not in have}
            have.update(news)
        if len(have) == before:
            return False
        for below in _UPWARDS:
            if below < status:
                self._levels.setdefault(below, set()).update(news)
                if held := self._held.get(below):  # the higher one says it all
                    for member in news.keys() & held.keys():
                        del held[member]
        if held := self._held.get(status):
            held.update(news)
        else:
            self._held[status] = news
        self._count()
        return True

    def take_held(self) -> dict[int, dict[str, int]]:
        """What was held, by status and member the time; it is held no more."""
        held, self._held = self._held, {}
        return {status: held[status] for status in _UPWARDS if held.get(status)}

    def _count(self) -> None:
        self.count = sum(map(len, self._levels.values()))


class Confirmed(Protocol):
    """The account whose messages the members confirm."""

    def confirmed(self, out: Outgoing, held: Mapping[int, Mapping[str, int]]) -> None:
        """Store and tell, by status and member, since when each has it."""


class Gathering:
    """What members of groups confirm, of all accounts of a node."""

    def __init__(self, most: int = MAX_HEARD) -> None:
        self._loop = asyncio.get_running_loop()
        self._most = most
        self._count = 0
        self._of: dict[Confirmed, dict[str, Heard]] = {}
        self._heard: OrderedDict[Heard, Confirmed] = OrderedDict()  # what something came of last is last
        self._held: dict[Heard, Confirmed] = {}
        self._timer: asyncio.TimerHandle | None = None

    def find(self, account: Confirmed, network_id: str) -> Heard | None:
        """What is remembered of a message."""
        found = self._of.get(account)
        return None if found is None else found.get(network_id)

    def begin(self, account: Confirmed, out: Outgoing) -> Heard:
        """Remember a message, of which nothing is stored but what the caller says."""
        heard = Heard(out)
        self._of.setdefault(account, {})[out.network_id] = heard
        self._heard[heard] = account
        return heard

    def take(
        self,
        account: Confirmed,
        heard: Heard,
        status: pb.MessageStatus.ValueType,
        members: Sequence[str],
        times: Sequence[int],
    ) -> None:
        """Members have a message since these times; what is news is stored and told in a moment."""
        before = heard.count
        if heard.take(status, members, times):
            heard.changed = True
            if heard not in self._held:
                heard.since = self._loop.time()
                self._held[heard] = account
            if self._timer is None:
                self._timer = self._loop.call_later(HOLD_SECONDS, self._look)
        self._heard.move_to_end(heard)
        self._count += heard.count - before
        if self._count > self._most:
            self._trim()

    def counted(self, heard: Heard) -> None:
        """What is stored of a message was said."""
        self._count += heard.count

    async def post_all(self) -> None:
        """Return when all that came until now is posted to the journal."""
        for heard in [*self._held]:
            if heard in self._held:
                self._post(heard)
                await asyncio.sleep(0)

    def close(self, account: Confirmed) -> None:
        """Post what is held of the account, and forget all of its messages."""
        for heard in self._of.get(account, {}).values():
            if heard in self._held:
                self._post(heard)
            self._count -= heard.count
            del self._heard[heard]
        self._of.pop(account, None)

    def _look(self) -> None:
        self._timer = None
        now, posted, wait = self._loop.time(), 0, HOLD_SECONDS
        for heard in [*self._held]:
            if posted >= _IN_TURN:
                wait = _BETWEEN_TURNS
                break
            if heard.changed and now - heard.since < MAX_HOLD_SECONDS:
                heard.changed = False
            else:
                posted += self._post(heard)
        if self._held:
            self._timer = self._loop.call_later(wait, self._look)

    def _post(self, heard: Heard) -> int:
        account, held = self._held.pop(heard), heard.take_held()
        try:
            account.confirmed(heard.out, held)
        except Exception:  # one message's: the others' are still to be posted
            logger.exception("receipts of members are lost", message=heard.out.id)
        return sum(map(len, held.values()))

    def _trim(self) -> None:
        forgotten: list[Heard] = []
        for heard, account in self._heard.items():
            if self._count <= self._most:
                break
            if heard not in self._held:
                forgotten.append(heard)
                self._count -= heard.count
                messages = self._of[account]
                del messages[heard.out.network_id]
                if not messages:
                    del self._of[account]
        for heard in forgotten:
            del self._heard[heard]


MAX_TOLD = 200_000
"""Of all accounts of a process; of more, the oldest are told again."""


class Told:
    """What a network has told of people lately, as digests alone: about 100 bytes each."""

    def __init__(self, most: int = MAX_TOLD) -> None:
        self._most = most
        self._digests: dict[int, None] = {}

    def is_new(self, account: UUID, address: str, identity: Identity) -> bool:
        """Whether an account was not told this before of who is behind an address."""
        digest = hash((account, address, identity))
        if digest in self._digests:
            return False
        self._digests[digest] = None
        if len(self._digests) > self._most:
            del self._digests[next(iter(self._digests))]
        return True


TOLD = Told()
"""Of this process. What it forgets is stored once more, which changes nothing."""
