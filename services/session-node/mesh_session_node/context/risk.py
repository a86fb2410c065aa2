"""How the network may judge an account: to how many strangers it writes, and how many of them answer.

Only sums are kept, of seven days, and one mark for each of 4,096 groups that people's addresses are hashed
into: whether somebody of it ever wrote to the account, and on which day the account last wrote to somebody of
it. How many people that are is estimated; with some hundred recipients to a few in a hundred.
"""

from __future__ import annotations

import time
import zlib
from math import log1p

import structlog
from google.protobuf.message import DecodeError

from mesh_core.database.requests import RecordKind
from mesh_session_node.context.people import People
from mesh_session_node.drivers.interface.content import Incoming, is_person, names_of
from mesh_session_node.journal import AccountRecord
from sessionmesh.internal.v1.session_pb2 import StoredRisk
from sessionmesh.v1 import session_pb2 as pb

logger = structlog.get_logger(__name__)

DAYS = 7
GROUPS = 4096
RISK_KEY = "week"
"""The key of the one record of an account."""
STORE_SECONDS = 60.0
"""What has changed is stored this often: as much is forgotten when a node dies."""
_DAY = 86_400
_WROTE = 0x80
_CYCLE = 127
"""Days are told apart by their numbers modulo this; marks of older days than seven are taken away in time."""


class _Day:
    """What happened on one day, counted from 1970."""

    __slots__ = ("day", "received", "restrictions", "sent")

    def __init__(self, day: int, sent: int = 0, received: int = 0, restrictions: int = 0) -> None:
        self.day, self.sent, self.received, self.restrictions = day, sent, received, restrictions


class Risk:
    """Of one account. Times are seconds since the epoch."""

    __slots__ = (
        "_changed",
        "_day",
        "_days",
        "_groups",
        "_loaded",
        "_mark",
        "_stored_at",
        "_today",
        "raised",
    )

    def __init__(self) -> None:
        self._day = -1
        self._mark = 0
        self._today = _NO_DAY
        self._days: list[_Day] | tuple[()] = ()
        self._groups: bytearray | None = None  # most accounts neither write nor are written to
        self._loaded = False
        self._changed = False
        self._stored_at = 0.0
        self.raised = False
        """The alarm is on."""

    def sent(self, chat: str, now: float) -> None:
        """The network took a message to this chat; only those of two count."""
        if is_person(chat):
            groups = self._turned(now)
            self._today.sent += 1
            at = zlib.crc32(chat.encode()) % GROUPS
            groups[at] = groups[at] & _WROTE | self._mark
            self._changed = True

    def came(self, message: Incoming, people: People) -> None:
        """A message is stored. Whom it came from has written to the account under every name that is known,
        also in the past that a pairing brought.
        """
        if message.from_account or not is_person(message.chat):
            return
        groups = self._turned(time.time())
        self._today.received += not message.history
        for name in {message.chat, *names_of(people.find(message.chat))}:
            groups[zlib.crc32(name.encode()) % GROUPS] |= _WROTE
        self._changed = True

    def restricted(self, kinds: int, now: float) -> None:
        """The network began to restrict so many kinds of acts."""
        self._turned(now)
        self._today.restrictions += kinds
        self._changed = True

    def shown(self, now: float) -> pb.SessionRisk:
        """As the API has it, but for the plan of warming up."""
        risk = pb.SessionRisk()
        if self._groups is None:
            return risk
        groups = self._turned(now)
        if (share := _unknown_share(groups)) is not None:
            risk.unknown_recipient_share = round(share, 3)
        sent = sum(day.sent for day in self._days)
        if sent:
            risk.replies_per_send = round(sum(day.received for day in self._days) / sent, 3)
        risk.restrictions = sum(day.restrictions for day in self._days)
        return risk

    def judge(self, account_id: str, percent: int, least: int, now: float) -> None:
        """Raise the alarm when so many percent of the recipients, `least` of them or more, never wrote to the
        account; end it when that is over.
        """
        share, recipients = self.shown(now).unknown_recipient_share, self.recipients()
        high = recipients >= least and share * 100 >= percent
        if high != self.raised:
            self.raised = high
            tell = logger.warning if high else logger.info
            tell(
                "alarm" if high else "alarm is over",
                alarm="account_risk",
                account_id=account_id,
                unknown_recipient_share=share,
                recipients=recipients,
            )

    def recipients(self) -> int:
        """About how many people the account wrote to."""
        return 0 if self._groups is None else GROUPS - self._groups.translate(_UNSENT).count(0)

    def row(self, now: float, *, at_once: bool = False) -> AccountRecord | None:
        """What is to be stored now; None: nothing, or not yet, or it is not known what is stored."""
        if not self._changed or not self._loaded or self._groups is None:
            return None
        if not at_once and now - self._stored_at < STORE_SECONDS:
            return None
        self._changed, self._stored_at = False, now
        stored = StoredRisk(day=self._day, groups=zlib.compress(self._groups, 1))
        for day in self._days:
            stored.days.add(day=day.day, sent=day.sent, received=day.received, restrictions=day.restrictions)
        value = stored.SerializeToString()
        return AccountRecord(RecordKind.RISK, RISK_KEY, "", value, int(now * 1e6))

    def load(self, value: bytes | None, now: float) -> None:
        """What was stored comes to what was counted since; None: there is nothing. Raises `DecodeError`."""
        self._loaded = True
        if value is None:
            return
        stored = StoredRisk.FromString(value)
        try:
            before = bytearray(zlib.decompressobj().decompress(stored.groups, GROUPS))
        except zlib.error as error:
            raise DecodeError(str(error)) from None
        if len(before) != GROUPS:
            raise DecodeError("the marks are not complete")
        groups = self._turned(now)
        _age(before, self._day - stored.day, self._day)
        for at, mark in enumerate(before):
            if mark:
                groups[at] |= mark & _WROTE
                if not groups[at] & ~_WROTE:
                    groups[at] |= mark
        days = [*self._days]
        known = {day.day: day for day in days}
        for day in stored.days:
            if (same := known.get(day.day)) is not None:
                same.sent += day.sent
                same.received += day.received
                same.restrictions += day.restrictions
            elif self._day - DAYS < day.day < self._day:
                days.insert(-1, _Day(day.day, day.sent, day.received, day.restrictions))
        self._days = days
        self._changed = True

    def _turned(self, now: float) -> bytearray:
        """The marks, as they are on this day; a clock that goes back changes nothing."""
        day = int(now) // _DAY
        groups = self._groups
        if groups is None:
            groups = self._groups = bytearray(GROUPS)
        if day > self._day:
            _age(groups, day - self._day, day)
            self._day, self._mark = day, day % _CYCLE + 1
            self._today = _Day(day)
            self._days = [*(one for one in self._days if one.day > day - DAYS), self._today]
        return groups


_NO_DAY = _Day(-DAYS)
"""Of an account of which nothing is counted yet."""


def _age(groups: bytearray, passed: int, day: int) -> None:
    """Take the marks of days before the last seven away, `passed` days after that was done last."""
    kept = set() if passed >= DAYS else {(day - back) % _CYCLE + 1 for back in range(DAYS)}
    table = bytes(mark if mark & ~_WROTE in kept else mark & _WROTE for mark in range(256))
    groups[:] = groups.translate(table)


def _unknown_share(groups: bytearray) -> float | None:
    """Which part of the recipients never wrote; None: there are none.

    Who never wrote is hashed into groups of writers as often as into others, and the latter show how many
    groups are hit (linear counting); what is left in groups of writers are recipients who wrote.
    """
    kinds = groups.translate(_KINDS)
    strangers, known, writers = kinds.count(1), kinds.count(3), kinds.count(2) + kinds.count(3)
    if not strangers and not known:
        return None
    hit = min(strangers / max(1, GROUPS - writers), 1 - 1 / GROUPS)
    unknown = -GROUPS * log1p(-hit)
    familiar = max(0.0, (known - writers * hit) / (1 - hit))
    return unknown / (unknown + familiar)


_KINDS = bytes((2 if mark & _WROTE else 0) + (1 if mark & ~_WROTE else 0) for mark in range(256))
"""Whether somebody wrote (2), and whether somebody was written to (1)."""
_UNSENT = bytes(1 if mark & ~_WROTE & 0xFF else 0 for mark in range(256))
