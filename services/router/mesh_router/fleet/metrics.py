"""The fleet's metrics, as this router sees it."""

from __future__ import annotations

from prometheus_client import Gauge

NODES = Gauge("mesh_fleet_nodes", "Registered session-nodes by state", ["state"])
ACCOUNTS = Gauge("mesh_fleet_accounts", "Accounts that want a session")
CAPACITY = Gauge("mesh_fleet_capacity_sessions", "Sessions that the ACTIVE nodes may run")
UNOWNED = Gauge("mesh_fleet_unowned_shards", "Shards that nobody runs")
OLDEST_UNOWNED = Gauge(
    "mesh_fleet_oldest_unowned_shard_seconds", "For how long the longest unowned shard has been without owner"
)
SILENCE = Gauge("mesh_fleet_view_silence_seconds", "Since when etcd was not heard, or not followed")
ALARM = Gauge("mesh_fleet_alarm", "1 while the alarm is on", ["kind"])
