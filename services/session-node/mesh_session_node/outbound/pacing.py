"""How sending looks to the network, where an account's settings say so: gaps between messages and typing
before texts (`SendPacing`), and limits that rise from day to day after the pairing (`WarmUpPlan`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from random import uniform
from typing import cast

from google.protobuf.duration_pb2 import Duration

from mesh_core import addresses
from mesh_session_node.context.account_settings import AccountSettings
from mesh_session_node.context.context import SessionContext
from mesh_session_node.drivers.interface.capabilities import Acting, Capability
from mesh_session_node.drivers.interface.content import is_person
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, Refused
from mesh_session_node.outbound.outgoing import Outgoing
from mesh_session_node.store.accounts import SendLimits
from sessionmesh.v1 import message_pb2
from sessionmesh.v1 import session_pb2 as pb

MAX_TYPING = 10.0
"""Longest time that typing is shown for one text where the settings say nothing, in seconds."""
LEAST_TYPING = 0.5
_PER_CHARACTER = 0.04, 0.09
"""Seconds of typing for each character: as fast as people are on a phone, at best."""


@dataclass(frozen=True, slots=True)
class Pacing:
    """Of one account. Times are in seconds; what is random is so anew each time."""

    min_gap: float
    max_gap: float
    typing: float
    """Longest time to show typing; 0: it is not shown."""

    def gap(self) -> float:
        """How long to wait after a message."""
        return uniform(self.min_gap, self.max_gap)  # noqa: S311 - looks less like a machine

    def typing_for(self, length: int) -> float:
        """How long a text of so many characters takes to write; 0: nothing is shown."""
        if not self.typing:
            return 0.0
        taken = max(LEAST_TYPING, length * uniform(*_PER_CHARACTER))  # noqa: S311 - the same
        return min(self.typing, taken)


def pacing_of(settings: AccountSettings) -> Pacing | None:
    """The account's pacing; None: it sends as fast as its limits allow."""
    if not settings.given.HasField("pacing"):
        return None
    given: pb.SendPacing = settings.given.pacing
    min_gap, max_gap = _seconds(given.min_gap), _seconds(given.max_gap)
    typing = 0.0
    if given.show_typing:
        typing = _seconds(given.max_typing) if given.HasField("max_typing") else MAX_TYPING
    if not max_gap and not min_gap and not typing:
        return None
    return Pacing(min_gap, max(min_gap, max_gap), typing)


def begin_typing(context: SessionContext, out: Outgoing, pacing: Pacing, now: float) -> float:
    """Have the account be seen to write this text; for how many seconds, before it leaves. 0: nothing is
    shown, as of what would expire meanwhile. `now` is seconds since the epoch.
    """
    text, chat = out.request.content.text.body, out.chat
    if not text or Capability.TYPING not in context.driver.capabilities:
        return 0.0
    if not is_person(chat) and addresses.kind_of(chat) != "group":
        return 0.0
    seconds = pacing.typing_for(len(text))
    if not seconds or (out.expire is not None and out.expire <= now + seconds):
        return 0.0
    context.host.spawn(f"typing of {out.id}", _show_typing(context, chat))
    return seconds


async def _show_typing(context: SessionContext, chat: str) -> None:
    """It is for the looks of it: where it fails, the message leaves all the same."""
    if context.link is not None:
        with suppress(Refused, ConnectionEnded, TimeoutError):
            await cast(Acting, context.link).show_typing(chat, message_pb2.TYPING_STATE_TYPING)


def warm_up_day(settings: AccountSettings, now: float) -> int:
    """The day of the account's plan, from 1 with its pairing on; 0: there is no plan, or it is over. `now` is
    seconds since the epoch.
    """
    plan = settings.given.warm_up.messages_per_day if settings.given.HasField("warm_up") else ()
    if not plan or settings.pair_time is None:
        return 0
    day = max(0, int(now - settings.pair_time / 1e6)) // _DAY + 1
    return day if day <= len(plan) else 0


def warmed_up(limits: SendLimits, settings: AccountSettings, now: float) -> SendLimits:
    """The account's limits as far as its plan allows them today: it lowers what may leave in any 24 hours."""
    day = warm_up_day(settings, now)
    if not day:
        return limits
    plan: Sequence[int] = settings.given.warm_up.messages_per_day
    return replace(limits, per_day=min(limits.per_day, plan[day - 1]))


def _seconds(duration: Duration) -> float:
    return float(duration.seconds + duration.nanos / 1e9)


_DAY = 86_400
