"""The catalogue of metrics, how to declare one, and what Prometheus is shown of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.metrics_core import Metric as Shown
from prometheus_client.registry import Collector

from mesh_core.metrics.family import Family, Kind, Metric, Open, Series
from mesh_core.metrics.series import Counter, Gauge, Histogram

Values = Iterable[str] | Open
"""What a label can be: values, or what they are and how many."""
CATALOGUE: dict[str, Metric] = {}
"""Every metric that was declared, by its name: those of the modules that are imported."""
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The bounds of durations, unless others are given."""


def counter(name: str, meaning: str, *, answers: str) -> Counter:
    """A counter of one series; its name ends in `_total`."""
    return counters(name, meaning, answers=answers).labels()


def counters(name: str, meaning: str, *, answers: str, **labels: Values) -> Family[Counter]:
    """A counter with labels."""
    family = _declare(Metric(name, Kind.COUNTER, meaning, answers, _listed(labels)), Counter)
    family.begin_all()
    return family


def gauge(name: str, meaning: str, *, answers: str) -> Gauge:
    """A gauge of one series."""
    return gauges(name, meaning, answers=answers).labels()


def gauges(name: str, meaning: str, *, answers: str, **labels: Values) -> Family[Gauge]:
    """A gauge with labels."""
    return _declare(Metric(name, Kind.GAUGE, meaning, answers, _listed(labels)), Gauge)


def histogram(name: str, meaning: str, *, answers: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
    """A histogram of one series, with these upper bounds."""
    return histograms(name, meaning, answers=answers, buckets=buckets).labels()


def histograms(
    name: str, meaning: str, *, answers: str, buckets: tuple[float, ...] = SECONDS, **labels: Values
) -> Family[Histogram]:
    """A histogram with labels."""
    bounds = tuple(map(float, buckets))
    metric = Metric(name, Kind.HISTOGRAM, meaning, answers, _listed(labels), bounds)
    return _declare(metric, partial(Histogram, bounds))


def info(name: str, meaning: str, *, answers: str, **labels: Values) -> Family[Gauge]:
    """What is there for its labels, and always 1; its name ends in `_info`."""
    return _declare(Metric(name, Kind.INFO, meaning, answers, _listed(labels)), Gauge)


def describe(metric: Metric) -> None:
    """Put into the catalogue what prometheus_client shows by itself."""
    if metric.name in CATALOGUE:
        raise ValueError(f"{metric.name} is declared twice")
    CATALOGUE[metric.name] = metric


def _declare(metric: Metric, make: Callable[[], Series]) -> Family[Series]:
    describe(metric)
    family = Family(metric, make)
    _page.families.append(family)
    return family


def _listed(labels: Mapping[str, Values]) -> Mapping[str, tuple[str, ...] | Open]:
    return MappingProxyType(
        {name: one if isinstance(one, Open) else tuple(one) for name, one in labels.items()}
    )


class _Page(Collector):
    """What prometheus_client's registry is told when somebody looks."""

    def __init__(self) -> None:
        self.families: list[Family[Any]] = []

    def describe(self) -> Iterator[Shown]:
        """Nothing: that no name is used twice is seen to above."""
        yield from ()

    def collect(self) -> Iterator[Shown]:
        for family in self.families:
            shown = _SHOW[family.metric.kind](family)
            if shown.samples:
                yield shown


def _counters(family: Family[Counter]) -> Shown:
    metric = family.metric
    shown = CounterMetricFamily(metric.name, metric.meaning, labels=[*metric.labels])
    for labels, one in [*family.series.items()]:
        shown.add_metric(labels, one.value)
    return shown


def _gauges(family: Family[Gauge]) -> Shown:
    metric = family.metric
    shown = GaugeMetricFamily(metric.name, metric.meaning, labels=[*metric.labels])
    for labels, one in [*family.series.items()]:
        if (value := one.value) is not None:
            shown.add_metric(labels, value)
    return shown


def _histograms(family: Family[Histogram]) -> Shown:
    metric = family.metric
    shown = HistogramMetricFamily(metric.name, metric.meaning, labels=[*metric.labels])
    for labels, one in [*family.series.items()]:
        shown.add_metric(labels, one.buckets(), one.total)
    return shown


def _infos(family: Family[Gauge]) -> Shown:
    metric = family.metric
    shown = InfoMetricFamily(metric.name.removesuffix("_info"), metric.meaning)
    for labels in family.series:
        shown.add_metric((), dict(zip(metric.labels, labels, strict=True)))
    return shown


_SHOW: dict[Kind, Callable[[Family[Any]], Shown]] = {
    Kind.COUNTER: _counters,
    Kind.GAUGE: _gauges,
    Kind.HISTOGRAM: _histograms,
    Kind.INFO: _infos,
}
_page = _Page()
REGISTRY.register(_page)
