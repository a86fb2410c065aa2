"""Metrics: each is declared where it is counted, and all are in one catalogue.

    SESSIONS = gauges(
        "mesh_sessions", "Sessions on this node", answers="How many accounts are online?", state=STATE_NAMES
    )
    SESSIONS.labels("CONNECTED").inc()

docs/metrics.md is made from the catalogue, and what the parts of a mesh show is compared with it.
"""

from mesh_core.metrics.catalogue import (
    CATALOGUE,
    counter,
    counters,
    gauge,
    gauges,
    histogram,
    histograms,
    info,
)
from mesh_core.metrics.family import Family, Kind, Metric, Open
from mesh_core.metrics.processes import watch_process
from mesh_core.metrics.series import Counter, Gauge, Histogram

__all__ = [
    "CATALOGUE",
    "Counter",
    "Family",
    "Gauge",
    "Histogram",
    "Kind",
    "Metric",
    "Open",
    "counter",
    "counters",
    "gauge",
    "gauges",
    "histogram",
    "histograms",
    "info",
    "watch_process",
]
