"""What the sidecar does, as metrics of its node and as spans of the node's traces: it exports none itself."""

from __future__ import annotations

from collections.abc import Sequence

from mesh_core.metrics import counter, counters, gauge, watch_process
from mesh_core.telemetry import tracing
from sessionmesh.internal.v1 import linked_device_pb2 as pb

UP = gauge(
    "mesh_whatsapp_web_sidecar_up",
    "1 while the sidecar of linked devices runs and answers.",
    answers="Can linked devices be online on this node?",
)
ENDS = counters(
    "mesh_whatsapp_web_sidecar_ends_total",
    "Sidecars that ended, or could not be started, by reason.",
    answers="Why did linked devices lose their connections?",
    reason=("broke", "died", "hung", "not started", "wrong version"),
)
pid = 0
"""The sidecar that runs, or ran last; 0 before the first."""
watch_process("mesh_whatsapp_web_sidecar", lambda: pid)
CONNECTIONS = gauge(
    "mesh_whatsapp_web_connections",
    "Connections that the sidecar holds for this node.",
    answers="How many linked devices does this node serve?",
)
WAITING = gauge(
    "mesh_whatsapp_web_waiting_bytes",
    "Bytes that wait to be written to the sidecar.",
    answers="Does the sidecar keep up?",
)
WRITES = counter(
    "mesh_whatsapp_web_writes_total",
    "Times that the sidecar waited for rows of an account's state to be stored.",
    answers="What do linked devices cost the database?",
)
ROWS = counter(
    "mesh_whatsapp_web_rows_written_total",
    "Rows of accounts' states that the sidecar had stored.",
    answers="What do linked devices cost the database?",
)
MESSAGES_READ = counters(
    "mesh_whatsapp_web_messages_read_total",
    "Messages that recipients asked for again and the sidecar did not remember, by what was found.",
    answers="Do recipients fail to decrypt what we send?",
    outcome=["found", "none"],
)
ROWS_READ = counter(
    "mesh_whatsapp_web_rows_read_total",
    "Rows of accounts' states that the sidecar asked for.",
    answers="What do linked devices cost the database?",
)


def record(parent: str, steps: Sequence[pb.DeviceStep]) -> None:
    """Record what was done within a trace; nothing where that is not recorded."""
    if not tracing.is_sampled(parent):
        return
    for step in steps:
        if (name := _SPANS.get(step.kind)) is not None:  # else a newer sidecar did it
            tracing.start_span(name, parent=parent, start=step.start_nanos).end(step.end_nanos)


def receive(steps: Sequence[pb.DeviceStep]) -> str:
    """Begin the trace of a message that came; its `traceparent`, "" where the sidecar says nothing of it."""
    if not steps:
        return ""
    traceparent = tracing.begin("")
    if not tracing.is_sampled(traceparent):
        return traceparent
    whole, *parts = steps
    span = tracing.start_span(
        _SPANS[pb.DEVICE_STEP_KIND_RECEIVE], kind="consumer", parent=traceparent, start=whole.start_nanos
    )
    record(span.traceparent, parts)
    span.end(whole.end_nanos)
    return span.traceparent


_SPANS = {
    kind: "mesh.sidecar." + pb.DeviceStepKind.Name(kind).removeprefix("DEVICE_STEP_KIND_").lower()
    for kind in pb.DeviceStepKind.values()
}
