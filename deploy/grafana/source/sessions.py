"""Sessions: who is offline, since when, and why?"""

from __future__ import annotations

from deploy.grafana.source.panels import Dashboard, Graph, Number, Query, quantile

SESSIONS = Dashboard(
    "sessions",
    "Which accounts are offline, since when, and for what cause?",
    [
        Number(
            "Connected", "How many sessions are connected?", "short", Query("mesh:sessions_connected:sum")
        ),
        Number(
            "Not connected",
            "How many try to connect, or wait to?",
            "short",
            Query("mesh:sessions_disconnected:sum"),
            11,
            51,
        ),
        Number(
            "Held by a failing network",
            "How many wait for the network to work again?",
            "short",
            Query("sum(mesh_network_held_sessions)"),
            1,
            50,
        ),
        Number(
            "At risk",
            "How many may be closed for writing to strangers?",
            "short",
            Query("sum(mesh_sessions_risky)"),
            1,
            10,
        ),
        Number(
            "Not loadable",
            "How many cannot run where they are?",
            "short",
            Query("sum(mesh_sessions_unloadable)"),
            1,
            10,
        ),
        Number(
            "Quarantined in an hour",
            "How many failed too often?",
            "short",
            Query("sum(increase(mesh_sessions_quarantined_total[1h]))"),
            1,
            10,
        ),
        Graph(
            "Sessions by state",
            "What do the sessions do?",
            "short",
            [Query("sum by (state) (mesh_sessions) > 0", "{{state}}")],
            stacked=True,
            width=12,
        ),
        Graph(
            "Disconnects by cause",
            "Why do connections end, and since when?",
            "short",
            [Query("sum by (cause) (increase(mesh_session_ends_total[$__rate_interval])) > 0", "{{cause}}")],
            stacked=True,
            width=12,
        ),
        Graph(
            "Disconnects by node",
            "Is it one node?",
            "short",
            [
                Query(
                    "sum by (instance) (increase(mesh_session_ends_total[$__rate_interval]))", "{{instance}}"
                )
            ],
            stacked=True,
        ),
        Graph(
            "Time to connect, 95th percentile",
            "How long do connecting and logging in take, and how long do sessions wait before it?",
            "s",
            [
                Query(quantile(0.95, "mesh_session_connect_duration_seconds"), "connecting"),
                Query(quantile(0.95, "mesh_session_reconnect_delay_seconds"), "waiting"),
            ],
        ),
        Graph(
            "Network failing",
            "Which nodes hold their accounts back as the network fails?",
            "short",
            [Query("mesh_network_failing", "{{instance}} {{network}}")],
        ),
        Graph(
            "What could not be taken",
            "Does the network tell things that our code cannot take?",
            "short",
            [
                Query("sum by (what) (increase(mesh_foreign_failures_total[$__rate_interval]))", "{{what}}"),
            ],
        ),
    ],
)
