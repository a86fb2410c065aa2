"""What the webhook service counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

attempts = Counter("mesh_webhook_attempts", "Attempts by what became of the delivery", ["outcome"])
attempt_duration = Histogram(
    "mesh_webhook_attempt_duration_seconds",
    "From the first byte sent to the whole answer",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30),
)
first_attempt_delay = Histogram(
    "mesh_webhook_first_attempt_delay_seconds",
    "From the delivery's commit to its first attempt",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)
in_flight = Gauge("mesh_webhook_in_flight", "Requests that wait for an answer")
pending = Gauge("mesh_webhook_pending", "Deliveries that are not done, at most 100,000")
oldest_due = Gauge(
    "mesh_webhook_oldest_due_seconds", "How long the delivery that is due longest has been due"
)
fan_out_lag = Gauge("mesh_webhook_fan_out_lag_seconds", "Age of the event that the fan-out handled last")
fanned_out = Counter("mesh_webhook_events", "Events handled by the fan-out")
endpoints_disabled = Counter("mesh_webhook_endpoints_disabled", "Endpoints disabled by the mesh", ["cause"])
streams = Gauge("mesh_event_streams", "Open Subscribe calls")
