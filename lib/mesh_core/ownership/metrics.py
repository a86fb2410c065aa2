"""What a session-node shows of its ownership."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

CLAIMS = Counter("mesh_ownership_claims_total", "Owner keys claimed in etcd")
TAKEN = Counter("mesh_ownership_shards_taken_total", "Shards that began to run here")
RELEASED = Counter("mesh_ownership_shards_released_total", "Shards handed off or given back")
LOST = Counter(
    "mesh_ownership_shards_lost_total", "Shards that a passed deadline, or the fence, took from this node"
)
REFUSED_WRITES = Counter(
    "mesh_ownership_refused_writes_total", "Times that the fence refused writes of a shard"
)
BEAT_SECONDS = Histogram(
    "mesh_ownership_beat_seconds",
    "Round trip of a beat that was answered",
    ["authority"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
)
BEATS_FAILED = Counter("mesh_ownership_beats_failed_total", "Beats without an answer in time", ["authority"])
RUNNING = Gauge("mesh_ownership_shards", "Shards that this node holds")
DEADLINE = Gauge(
    "mesh_ownership_deadline_seconds", "Until the earliest hard deadline of a shard held; +Inf: none held"
)
AUTHORITY = Gauge(
    "mesh_ownership_authority", "1 while the authority was heard within the soft deadline", ["authority"]
)
WAITING = Gauge(
    "mesh_ownership_waiting_seconds", "How long the longest wait for another node's release has gone on"
)
TABLE_STALE = Gauge(
    "mesh_ownership_table_stale", "1 while the assignment table should have been rewritten and was not"
)
REFUSING = Gauge("mesh_ownership_planner_refusing", "1 while the planner cannot place shards as it should")
