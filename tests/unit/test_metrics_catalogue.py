"""The catalogue of metrics: the page made from it, rules of names, and labels that nobody can multiply."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from prometheus_client import REGISTRY
from prometheus_client.openmetrics import exposition, parser

from mesh_core.metrics import CATALOGUE, Kind, Metric, Open, counter, counters, gauge, histogram
from mesh_core.metrics import catalogue as catalogue_module
from tests.metrics_catalogue import PAGE, catalogue, page

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"


@pytest.fixture
def declared() -> Iterator[None]:
    """What a test declares is gone after it."""
    metrics, families = dict(CATALOGUE), [*catalogue_module._page.families]
    yield
    CATALOGUE.clear()
    CATALOGUE.update(metrics)
    catalogue_module._page.families[:] = families


def test_the_docs_have_every_metric() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.metrics_catalogue"


@pytest.mark.parametrize("metric", catalogue().values(), ids=lambda metric: metric.name)
def test_names_follow_the_rules_of_prometheus(metric: Metric) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert metric.name.endswith("_info") == (metric.kind is Kind.INFO)
    assert not re.search(r"_(ms|milliseconds|minutes|kb|percent|count|sum|bucket)(_|$)", metric.name)
    assert metric.meaning.endswith(".")
    assert metric.answers.endswith("?")
    assert all(re.fullmatch(r"[a-z_]+", label) and label != "le" for label in metric.labels)


@pytest.mark.parametrize("metric", catalogue().values(), ids=lambda metric: metric.name)
def test_a_metric_has_only_so_many_series(metric: Metric) -> None:
    most = 1
    for values in metric.labels.values():
        most *= values.most if isinstance(values, Open) else len(values)
    if not metric.name.startswith("rpc_"):  # of each method only the codes that it was answered with
        assert most <= 2_000


def test_a_name_is_declared_once(declared: None) -> None:
    gauge("test_of_this", "Something.", answers="What?")
    with pytest.raises(ValueError, match="test_of_this"):
        counter("test_of_this", "Something.", answers="What?")


@pytest.mark.usefixtures("declared")
def test_values_that_nobody_declared_are_one_series() -> None:
    family = counters("test_of_labels_total", "Something.", answers="What?", outcome=["sent", "failed"])
    random = Random(1)
    for _ in range(1_000):
        family.labels(random.randbytes(8).hex()).inc()
    family.labels("sent").inc()
    assert {labels: one.value for labels, one in family.series.items()} == {
        ("sent",): 1,
        ("failed",): 0,
        ("other",): 1_000,
    }


@pytest.mark.usefixtures("declared")
def test_an_open_label_has_no_more_values_than_declared() -> None:
    family = counters("test_of_open_labels_total", "Something.", answers="What?", task=Open("names", 5))
    for number in range(1_000):
        family.labels(f"task {number}").inc()
    assert len(family.series) == 6
    assert family.labels("task 4").value == 1
    assert family.labels("task 5").value == 995
    assert family.labels("task 6") is family.labels("task 5")


@pytest.mark.usefixtures("declared")
def test_a_gauge_that_was_never_set_is_not_shown() -> None:
    unset = gauge("test_of_gauges", "Something.", answers="What?")
    assert REGISTRY.get_sample_value("test_of_gauges") is None
    unset.set(0)
    assert REGISTRY.get_sample_value("test_of_gauges") == 0
    unset.set_function(lambda: 7)
    assert REGISTRY.get_sample_value("test_of_gauges") == 7


@pytest.mark.usefixtures("declared")
def test_a_bucket_has_the_last_recorded_trace_as_its_example() -> None:
    durations = histogram("test_of_examples_seconds", "Something.", answers="What?", buckets=(0.1, 1))
    durations.observe(0.5, TRACEPARENT + "01")
    durations.observe(0.6, TRACEPARENT + "00")
    durations.observe(0.7)
    generate: Callable[..., bytes] = exposition.generate_latest
    families: Callable[..., Any] = parser.text_string_to_metric_families
    text = generate(REGISTRY).decode()
    [shown] = [one for one in families(text) if one.name == "test_of_examples_seconds"]
    examples = {s.labels["le"]: s.exemplar for s in shown.samples if s.name.endswith("_bucket")}
    assert examples["0.1"] is None
    assert examples["+Inf"] is None
    assert examples["1.0"] is not None
    assert examples["1.0"].labels == {"trace_id": TRACEPARENT[3:35]}
    assert examples["1.0"].value == 0.5
