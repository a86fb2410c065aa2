"""Fleet: is everything there, and is there room?"""

from __future__ import annotations

from deploy.grafana.source.panels import Dashboard, Graph, Number, Query

FLEET = Dashboard(
    "fleet",
    "Is every part there, has every shard an owner, and is there room for more accounts?",
    [
        Number(
            "Alerts",
            "How many alerts are firing that somebody is told of?",
            "short",
            Query('count(ALERTS{alertstate="firing", severity=~"page|ticket"}) or vector(0)'),
            1,
            2,
        ),
        Number(
            "Connected",
            "Which share of the sessions that should be connected are?",
            "percentunit",
            Query(
                "mesh:sessions_connected:sum / (mesh:sessions_connected:sum + mesh:sessions_disconnected:sum)"
            ),
            0.99,
            0.95,
        ),
        Number(
            "Not connected",
            "How many sessions try to connect, or wait to?",
            "short",
            Query("mesh:sessions_disconnected:sum"),
            11,
            51,
        ),
        Number(
            "Unowned shards",
            "How many of the 4,096 shards have no owner?",
            "short",
            Query("max(mesh_fleet_unowned_shards)"),
            1,
            100,
        ),
        Number(
            "Capacity used",
            "How many of the sessions that the fleet takes are wanted?",
            "percentunit",
            Query("mesh:capacity_used:ratio"),
            0.8,
            0.95,
        ),
        Number(
            "Parts down",
            "How many parts do not answer?",
            "short",
            Query('count(up{job=~"router|session-node|media|webhook"} == 0) or vector(0)'),
            1,
            2,
        ),
        Graph(
            "Nodes",
            "Which nodes are registered, and do they serve?",
            "short",
            [Query("max by (state) (mesh_fleet_nodes)", "{{state}}")],
            stacked=True,
        ),
        Graph(
            "Accounts and capacity",
            "How fast does the fleet fill?",
            "short",
            [
                Query("max(mesh_fleet_accounts)", "accounts"),
                Query("max(mesh_fleet_capacity_sessions)", "capacity"),
            ],
        ),
        Graph(
            "Shards by node",
            "Is the work spread evenly, and when did shards move?",
            "short",
            [Query("sum by (instance) (mesh_ownership_shards)", "{{instance}}")],
            stacked=True,
        ),
        Graph(
            "Alarms",
            "Which alarms of the fleet were on, and when?",
            "short",
            [Query("max by (kind) (mesh_fleet_alarm)", "{{kind}}")],
        ),
        Graph(
            "Shards taken and released",
            "Do shards move at all, and do they move too much?",
            "ops",
            [
                Query("sum(rate(mesh_ownership_shards_taken_total[$__rate_interval]))", "taken"),
                Query("sum(rate(mesh_ownership_shards_released_total[$__rate_interval]))", "released"),
                Query("sum(rate(mesh_ownership_shards_lost_total[$__rate_interval]))", "lost"),
            ],
        ),
        Graph(
            "Age of what the routers know",
            "Do routers hear etcd?",
            "s",
            [Query("mesh_fleet_view_silence_seconds", "{{instance}}")],
        ),
    ],
)
