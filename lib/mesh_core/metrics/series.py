"""What counts: a counter, a gauge, a histogram.

prometheus_client's own take a lock for each; these stand on the way of every call and message, and take a
tenth of a microsecond (a histogram two). Each is written by one thread, and read by that of the page.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client.samples import Exemplar

Bucket = tuple[str, float] | tuple[str, float, Exemplar]


class Counter:
    """What only rises."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        """Count so many more."""
        self.value += amount


class Gauge:
    """What rises and falls. It is on the page from when it is first set."""

    __slots__ = ("_function", "_value")

    def __init__(self) -> None:
        self._value: float | None = None
        self._function: Callable[[], float] | None = None

    @property
    def value(self) -> float | None:
        """As it is now; None: it was never set."""
        return self._value if self._function is None else float(self._function())

    def set(self, value: float) -> None:
        """It is this now."""
        self._value = value

    def inc(self, amount: float = 1.0) -> None:
        """It is so much more."""
        self._value = (self._value or 0.0) + amount

    def dec(self, amount: float = 1.0) -> None:
        """It is so much less."""
        self._value = (self._value or 0.0) - amount

    def set_function(self, function: Callable[[], float]) -> None:
        """Whenever somebody looks, it is what `function` returns; it is called in the page's thread."""
        self._function = function

    @contextmanager
    def track_inprogress(self) -> Iterator[None]:
        """One more while the body runs."""
        self.inc()
        try:
            yield
        finally:
            self.dec()


class Histogram:
    """How often which values came, in buckets of upper bounds, each with the last trace that fell into it."""

    __slots__ = ("_bounds", "_counts", "_exemplars", "_total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._exemplars: dict[int, Exemplar] = {}
        self._total = 0.0

    def observe(self, value: float, traceparent: str = "") -> None:
        """Count one value; `traceparent` is of the trace that it is from, "" where there is none."""
        bucket = bisect_left(self._bounds, value)
        self._counts[bucket] += 1
        self._total += value
        if traceparent and traceparent[-1] in _SAMPLED:
            self._exemplars[bucket] = Exemplar({"trace_id": traceparent[3:35]}, value, time.time())

    def buckets(self) -> list[Bucket]:
        """Upper bound, count of all values up to it, and an example where there is one."""
        running, found = 0.0, list[Bucket]()
        names = (*map(str, self._bounds), "+Inf")
        for bucket, (name, count) in enumerate(zip(names, tuple(self._counts), strict=True)):
            running += count
            exemplar = self._exemplars.get(bucket)
            found.append((name, running) if exemplar is None else (name, running, exemplar))
        return found

    @property
    def total(self) -> float:
        """The sum of all values."""
        return self._total


_SAMPLED = frozenset("13579bdf")
"""How the flags of a trace that is recorded end."""
