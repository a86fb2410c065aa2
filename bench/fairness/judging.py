"""What the bystander noticed, by attack."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from bench.fairness.bystander import EVENT_TYPES, Noticed
from bench.fairness.turns import Turn
from bench.measuring.pairs import Median, compared
from bench.mesh.caller_log import quantile
from bench.mesh.operator import NotMeasured
from bench.mesh.window import Window

STRANGERS = ("rapid_resets", "unknown_keys")
"""Attacks by anybody who reaches the router: what calls may notice of them is a figure of its own."""
_LEAST_FOR_AN_INTERVAL = 6
Timed = Sequence[tuple[float, float]]
"""When something was due, and how many seconds it took."""


class Noticing:
    """All that came back, and when it was due. A webhook is due when its event is committed; a call that
    failed took as long as it did.
    """

    def __init__(self, noticed: Noticed) -> None:
        self._sends = noticed.sends
        self._reads = noticed.reads
        self.sends: Timed = [(call.due, call.ended - call.due) for call in noticed.sends]
        self.reads: Timed = [(read.due, read.ended - read.due) for read in noticed.reads]
        self.hooks: Timed = [(hook.committed, hook.arrived - hook.committed) for hook in noticed.hooks]
        came = {(hook.message_id, hook.type) for hook in noticed.hooks}
        due = {(call.message_id, kind) for call in noticed.sends if not call.error for kind in EVENT_TYPES}
        self.webhooks_due = len(due)
        self.webhooks_missing = len(due - came)

    @property
    def failures(self) -> list[str]:
        """Why sends and reads were not answered, an entry each."""
        errors = [call.error for call in self._sends] + [read.error for read in self._reads]
        return [error for error in errors if error]

    def ratios(self, turns: Mapping[str, Sequence[Turn]], timed: Timed) -> dict[str, Median]:
        """By attack: the 99th percentile while attacked over that of quiet. Raises `NotMeasured` for a
        stretch without any.
        """
        found = {}
        for attack, taken in turns.items():
            quiet, attacked = self._p99s(taken, timed)
            if len(taken) >= _LEAST_FOR_AN_INTERVAL:
                found[attack] = compared(attacked, quiet)
            else:
                ratios = [one / other for one, other in zip(attacked, quiet, strict=True)]
                found[attack] = Median(statistics.median(ratios), min(ratios), max(ratios))
        return found

    def milliseconds(self, turns: Sequence[Turn], timed: Timed) -> str:
        """The percentiles themselves: the median over the stretches of quiet, and over those of attack."""
        quiet, attacked = self._p99s(turns, timed)
        return f"{statistics.median(quiet) * 1000:.0f} and {statistics.median(attacked) * 1000:.0f}"

    @staticmethod
    def _p99s(turns: Sequence[Turn], timed: Timed) -> tuple[list[float], list[float]]:
        return [_p99(turn.quiet, timed) for turn in turns], [_p99(turn.attacked, timed) for turn in turns]


def worst(ratios: Mapping[str, float], attacks: Iterable[str]) -> float:
    """Of these attacks."""
    return max(ratios[attack] for attack in attacks)


def _p99(window: Window, timed: Timed) -> float:
    seconds = [took for due, took in timed if window.holds(due)]
    if not seconds:
        raise NotMeasured("a stretch had no calls, or no webhooks")
    return quantile(seconds, 0.99)
