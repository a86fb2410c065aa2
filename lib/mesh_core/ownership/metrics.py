"""What a session-node shows of its ownership."""

from __future__ import annotations

from mesh_core.metrics import counter, counters, gauge, gauges, histograms

AUTHORITIES = ("etcd", "postgres")
STATES = ("claimed", "taken", "running", "stopping", "stopped")

CLAIMS = counter(
    "mesh_ownership_claims_total", "Owner keys claimed in etcd.", answers="How often do shards move?"
)
TAKEN = counter(
    "mesh_ownership_shards_taken_total", "Shards that began to run here.", answers="How often do shards move?"
)
RELEASED = counter(
    "mesh_ownership_shards_released_total",
    "Shards handed off or given back.",
    answers="How often do shards move in order?",
)
LOST = counter(
    "mesh_ownership_shards_lost_total",
    "Shards that a passed deadline, or the fence, took from this node.",
    answers="Did a node lose sessions because it heard neither authority?",
)
REFUSED_WRITES = counter(
    "mesh_ownership_refused_writes_total",
    "Times that the fence refused writes of a shard.",
    answers="Did a former owner try to write?",
)
BEAT_DURATION = histograms(
    "mesh_ownership_beat_duration_seconds",
    "Round trip of a beat that was answered.",
    answers="Do etcd and Postgres answer in time?",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
    authority=AUTHORITIES,
)
BEATS_FAILED = counters(
    "mesh_ownership_beats_failed_total",
    "Beats without an answer in time.",
    answers="Do etcd and Postgres answer in time?",
    authority=AUTHORITIES,
)
BEAT_AGE = gauges(
    "mesh_ownership_beat_age_seconds",
    "Since when the last beat was sent that the authority answered; +Inf: none was.",
    answers="How long was an authority not heard?",
    authority=AUTHORITIES,
)
SHARDS = gauges(
    "mesh_ownership_shards",
    "Shards of this node by how far they are on their way through it.",
    answers="Which node has how much, and does a shard hang between two nodes?",
    state=STATES,
)
DEADLINE = gauge(
    "mesh_ownership_deadline_seconds",
    "Until the earliest hard deadline of a shard held; +Inf: none held.",
    answers="How near is this node to dropping its sessions?",
)
AUTHORITY = gauges(
    "mesh_ownership_authority",
    "1 while the authority was heard within the soft deadline.",
    answers="Is one of the two authorities lost?",
    authority=AUTHORITIES,
)
WAITING = gauge(
    "mesh_ownership_waiting_seconds",
    "How long the longest wait for another node's release has gone on.",
    answers="Does a node not let go of a shard?",
)
TABLE_STALE = gauge(
    "mesh_ownership_table_stale",
    "1 while the assignment table should have been rewritten and was not.",
    answers="Does the table follow the nodes?",
)
REFUSING = gauge(
    "mesh_ownership_planner_refusing",
    "1 while the planner cannot place shards as it should.",
    answers="Is there too little capacity, or a table that cannot be read?",
)
