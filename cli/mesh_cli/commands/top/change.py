"""What happened between two readings of the parts' metrics pages: rates, and quantiles of durations. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isinf

from mesh_cli.commands.metrics_pages import Page

Pages = Mapping[str, Page]
"""By the name of the part."""


@dataclass(frozen=True, slots=True)
class Change:
    """From one reading to a later one, of the parts that both have. Who started anew has counted from 0."""

    before: Pages
    now: Pages

    def rate(self, name: str, *, part: str = "", **labels: str) -> float | None:
        """How much a counter rose a second: samples with these labels, of one part or of all of them.

        What a part does not show it has not counted. None where no part answered both times.
        """
        rates = [
            ((later.total(name, **labels) or 0.0) - ((earlier and earlier.total(name, **labels)) or 0.0))
            / seconds
            for earlier, later, seconds in self._both(part)
        ]
        return sum(rates) if rates else None

    def quantiles(
        self, name: str, shares: Sequence[float], *, part: str = "", **labels: str
    ) -> list[float | None]:
        """Below which value each share of what a histogram counted lies; None: it counted nothing."""
        counts: dict[float, float] = defaultdict(float)
        for earlier, later, _ in self._both(part):
            for sign, page in ((1, later), (-1, earlier)):
                for has, count in page.find(f"{name}_bucket", **labels) if page else ():
                    counts[float(has["le"])] += sign * count
        return [quantile(counts, share) for share in shares]

    def _both(self, part: str) -> Iterator[tuple[Page | None, Page, float]]:
        """Each page before and now, and the seconds between; before is None where the part started anew."""
        for name, later in self.now.items():
            earlier = self.before.get(name)
            if (part and name != part) or earlier is None or later.time <= earlier.time:
                continue
            same = earlier.total(_STARTED) == later.total(_STARTED)
            yield earlier if same else None, later, later.time - earlier.time


def quantile(counts: Mapping[float, float], share: float) -> float | None:
    """As Prometheus' histogram_quantile: `counts` of what lies at or below each bound, even in a bucket.

    What lies above all finite bounds is taken for the largest of these.
    """
    bounds = sorted(counts)
    if not bounds or counts[bounds[-1]] <= 0:
        return None
    rank = share * counts[bounds[-1]]
    low, bound = next((low, bound) for low, bound in pairwise([0.0, *bounds]) if counts[bound] >= rank)
    if isinf(bound):
        return low
    below = counts.get(low, 0.0)
    inside = counts[bound] - below
    return low + (bound - low) * (rank - below) / inside if inside > 0 else bound


_STARTED = "process_start_time_seconds"
