"""Dependencies: are etcd, Postgres and Redis well, as the mesh sees them?"""

from __future__ import annotations

from deploy.grafana.source.panels import Dashboard, Graph, Number, Query, quantile

DEPENDENCIES = Dashboard(
    "dependencies",
    "Are etcd, Postgres, Redis and certificates well, as the mesh sees them?",
    [
        Number(
            "Postgres' connections",
            "Which share of max_connections is used?",
            "percentunit",
            Query("max(mesh_database_connections) / max(mesh_database_max_connections)"),
            0.6,
            0.8,
        ),
        Number(
            "Oldest transaction",
            "How old is the snapshot that events are read behind?",
            "s",
            Query("max(mesh_database_oldest_transaction_seconds)"),
            30,
            60,
        ),
        Number(
            "Retention done",
            "How long ago was all old data last deleted?",
            "s",
            Query("max(mesh_retention_age_seconds)"),
            7200,
            86400,
        ),
        Number(
            "Numbers known",
            "Which share of the checked numbers were in the cache?",
            "percentunit",
            Query('mesh:cache_hits:ratio_1h{cache="numbers"}'),
            0.9,
            0.8,
        ),
        Graph(
            "Beats not answered",
            "Which authority fails to answer in time?",
            "ops",
            [
                Query(
                    "sum by (authority) (rate(mesh_ownership_beats_failed_total[$__rate_interval]))",
                    "{{authority}}",
                )
            ],
        ),
        Graph(
            "Beats, median",
            "How fast do etcd and Postgres answer?",
            "s",
            [
                Query(
                    quantile(0.5, "mesh_ownership_beat_duration_seconds", by="authority"),
                    "{{authority}}",
                )
            ],
        ),
        Graph(
            "Postgres: connections",
            "How many connections are open?",
            "short",
            [
                Query("max(mesh_database_connections)", "open"),
                Query("max(mesh_database_max_connections)", "at most"),
            ],
        ),
        Graph(
            "Postgres: oldest snapshot",
            "Does a transaction hold events back?",
            "s",
            [Query("max(mesh_database_oldest_transaction_seconds)", "age")],
        ),
        Graph(
            "Clocks",
            "How far is each machine's clock from that of Postgres?",
            "s",
            [Query("abs(mesh_clock_skew_seconds)", "{{job}} {{instance}}")],
        ),
        Graph(
            "Waiting for a connection",
            "Which process has too few connections to Postgres?",
            "short",
            [Query("mesh_database_pool_waiting", "{{job}} {{instance}}")],
        ),
        Graph(
            "Journal's commits, median",
            "How long does Postgres take to commit?",
            "s",
            [
                Query(
                    quantile(0.5, "mesh_journal_commit_duration_seconds"),
                    "median",
                )
            ],
        ),
        Graph(
            "Redis: round trips",
            "Does Redis answer?",
            "ops",
            [Query("sum by (outcome) (rate(mesh_limits_asked_total[$__rate_interval]))", "{{outcome}}")],
        ),
        Graph(
            "Cache hits",
            "Which cache spares what share of its questions?",
            "percentunit",
            [Query("mesh:cache_hits:ratio_1h", "{{cache}}")],
        ),
        Graph(
            "Calls over a limit",
            "Who is refused, by which limit?",
            "ops",
            [Query("sum by (limit) (rate(mesh_limits_refused_total[$__rate_interval]))", "{{limit}}")],
        ),
        Graph(
            "Days until certificates end",
            "Which certificate has to be renewed?",
            "d",
            [
                Query(
                    "(mesh_tls_certificate_expiry_timestamp_seconds - time()) / 86400",
                    "{{instance}} {{certificate}}",
                )
            ],
        ),
    ],
)
