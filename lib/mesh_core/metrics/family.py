"""A metric and its series, of which there are only so many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import product
from types import MappingProxyType
from typing import Generic, TypeVar

OTHER = "other"
"""Stands for every value of a label that is not among those declared, or beyond the last that has room."""
_UNITS = ("seconds", "bytes", "ratio")


class Kind(StrEnum):
    """The types of OpenMetrics that are used."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Open:
    """A label whose values are not listed: `what` they are, and how many at most have series of their own."""

    what: str
    most: int


@dataclass(frozen=True, slots=True)
class Metric:
    """What a metric means.

    `name` is as Prometheus shows it; `answers` is the question that somebody looks at it with. Of each label
    the values that it can have.
    """

    name: str
    kind: Kind
    meaning: str
    answers: str
    labels: Mapping[str, tuple[str, ...] | Open] = field(default_factory=lambda: MappingProxyType({}))
    buckets: tuple[float, ...] = ()

    @property
    def unit(self) -> str:
        """`seconds`, `bytes`, or "" for numbers of things."""
        words = self.name.removesuffix("_total").split("_")
        return next((unit for unit in _UNITS if unit in words[-1:]), "")

    def allows(self, label: str, value: str) -> bool:
        """Whether a series may have this value."""
        values = self.labels[label]
        return isinstance(values, Open) or value in values or value == OTHER


Series = TypeVar("Series")


class Family(Generic[Series]):
    """A metric's series by the values of its labels: as many as were declared, whatever callers send."""

    __slots__ = ("_make", "_seen", "metric", "series")

    def __init__(self, metric: Metric, make: Callable[[], Series]) -> None:
        self.metric = metric
        self.series: dict[tuple[str, ...], Series] = {}
        self._make = make
        self._seen: dict[str, set[str]] = {name: set() for name in metric.labels}

    def labels(self, *values: str) -> Series:
        """The series of these values, in the order of the labels."""
        found = self.series.get(values)
        return self._bounded(values) if found is None else found

    def begin_all(self) -> None:
        """Show every series from the start, if it is known which there are: a counter's first increase is
        lost to Prometheus when it appears with it.
        """
        listed = [values for values in self.metric.labels.values() if not isinstance(values, Open)]
        if len(listed) == len(self.metric.labels):
            for values in product(*listed):
                self.labels(*values)

    def _bounded(self, values: tuple[str, ...]) -> Series:
        named = zip(self.metric.labels, values, strict=True)
        known = tuple(value if self._has_room(name, value) else OTHER for name, value in named)
        found = self.series.get(known)
        if found is None:
            found = self.series[known] = self._make()
        return found

    def _has_room(self, name: str, value: str) -> bool:
        values, seen = self.metric.labels[name], self._seen[name]
        if not isinstance(values, Open):
            return value in values
        if value not in seen and len(seen) < values.most:
            seen.add(value)
        return value in seen
