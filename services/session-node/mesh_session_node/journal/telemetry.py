"""What the journal shows of itself: metrics by batch, and spans for messages whose traces are recorded."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mesh_core.metrics import counter, gauge, histogram
from mesh_core.telemetry.tracing import record_batch
from mesh_session_node.journal.batch import Unit
from mesh_session_node.journal.rows import InboundMessage, OutboundMessage

WAITING = gauge(
    "mesh_journal_waiting_units",
    "Units that callers have handed to the journal and that are not stored yet.",
    answers="Does the database keep up?",
)
RESENT = counter(
    "mesh_journal_resent_total",
    "Batches sent again because their outcome was not known.",
    answers="Does the database lose answers?",
)
POISON = counter(
    "mesh_journal_poison_total",
    "Units that the database refused for their data.",
    answers="Does something write what cannot be stored?",
)


def record_commit(began: int, batch: int, units: int, stored: Sequence[Unit]) -> None:
    """A batch was stored; `began` is when it was sent, in nanoseconds since 1970."""
    _COMMIT.observe((time.time_ns() - began) / 1e9)
    _UNITS.observe(units)
    record_batch(
        "mesh.journal.batch",
        "mesh.journal.commit",
        map(_traceparent, stored),
        {"mesh.journal.batch": batch, "mesh.journal.units": units},
        start=began,
    )


def _traceparent(unit: Unit) -> str:
    """Of the message that it stores; "" where that is none."""
    rows = unit[1]
    if isinstance(rows, OutboundMessage):
        return rows.traceparent
    return rows[0].traceparent if rows and isinstance(rows[0], InboundMessage) else ""


_COMMIT = histogram(
    "mesh_journal_commit_duration_seconds",
    "From sending a batch to its answer, resends included.",
    answers="How fast does the database commit?",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)
_UNITS = histogram(
    "mesh_journal_batch_units",
    "Units in a batch.",
    answers="How much is stored in one commit?",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
)
