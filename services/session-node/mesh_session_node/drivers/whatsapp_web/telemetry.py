"""What the sidecar does, as metrics of its node and as spans of the node's traces: it exports none itself."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import Counter, Gauge

from mesh_core.telemetry import tracing
from sessionmesh.internal.v1 import linked_device_pb2 as pb

UP = Gauge("mesh_whatsapp_web_sidecar_up", "1 while the sidecar of linked devices runs and answers")
ENDS = Counter(
    "mesh_whatsapp_web_sidecar_ends", "Sidecars that ended, or could not be started, by reason", ["reason"]
)
MEMORY = Gauge("mesh_whatsapp_web_sidecar_resident_bytes", "Memory that the sidecar takes")
CONNECTIONS = Gauge("mesh_whatsapp_web_connections", "Connections that the sidecar holds for this node")
WAITING = Gauge("mesh_whatsapp_web_waiting_bytes", "Bytes that wait to be written to the sidecar")
WRITES = Counter(
    "mesh_whatsapp_web_writes", "Times that the sidecar waited for rows of an account's state to be stored"
)
ROWS = Counter("mesh_whatsapp_web_rows_written", "Rows of accounts' states that the sidecar had stored")
MESSAGES_READ = Counter(
    "mesh_whatsapp_web_messages_read",
    "Messages that recipients asked for again and the sidecar did not remember, by what was found",
    ["outcome"],
)
ROWS_READ = Counter("mesh_whatsapp_web_rows_read", "Rows of accounts' states that the sidecar asked for")


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
