"""What the sidecar says that it did, as spans of the node's traces: it exports none itself."""

from __future__ import annotations

from collections.abc import Sequence

from mesh_core.telemetry import tracing
from sessionmesh.internal.v1 import linked_device_pb2 as pb

_SPANS = {
    kind: "mesh.sidecar." + pb.DeviceStepKind.Name(kind).removeprefix("DEVICE_STEP_KIND_").lower()
    for kind in pb.DeviceStepKind.values()
}


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
