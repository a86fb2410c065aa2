"""Messages: are calls answered in time, and do messages leave?"""

from __future__ import annotations

from deploy.grafana.source.panels import Dashboard, Graph, Number, Query, quantile

_CALLS = (
    'rpc_server_call_duration_seconds_count{job="router", rpc_method=~"sessionmesh[.].*"}[$__rate_interval]'
)
_LATENCY = quantile(
    0.95,
    "rpc_server_call_duration_seconds",
    by="rpc_method",
    where='job="router", rpc_method=~"sessionmesh[.].*"',
)

MESSAGES = Dashboard(
    "messages",
    "Are calls answered in time, do messages leave, and where do they wait?",
    [
        Number(
            "95th percentile",
            "How long do calls take?",
            "s",
            Query("mesh:call_duration_seconds:p95_5m"),
            0.5,
            2,
        ),
        Number(
            "Calls that fail",
            "Which share of the calls fail through no fault of their callers?",
            "percentunit",
            Query("mesh:call_failures:ratio_5m"),
            0.01,
            0.1,
        ),
        Number("In outboxes", "How many messages wait?", "short", Query("sum(mesh_outbox_messages)")),
        Number(
            "Oldest in an outbox",
            "How long has the one that waits longest been waiting?",
            "s",
            Query("max(mesh_outbox_oldest_age_seconds)"),
            300,
            900,
        ),
        Graph(
            "Calls by status",
            "How many calls come, and how do they end?",
            "reqps",
            [Query(f"sum by (rpc_response_status_code) (rate({_CALLS}))", "{{rpc_response_status_code}}")],
            stacked=True,
        ),
        Graph(
            "Calls by method",
            "What is called?",
            "reqps",
            [Query(f"topk(10, sum by (rpc_method) (rate({_CALLS})))", "{{rpc_method}}")],
        ),
        Graph(
            "Latency by method, 95th percentile",
            "Which method is slow?",
            "s",
            [
                Query(
                    f"topk(10, {_LATENCY})",
                    "{{rpc_method}}",
                )
            ],
        ),
        Graph(
            "Messages",
            "Do messages that are accepted also leave and arrive?",
            "ops",
            [
                Query(
                    "sum by (direction, status) (rate(mesh_messages_total[$__rate_interval])) > 0",
                    "{{direction}} {{status}}",
                )
            ],
        ),
        Graph(
            "Messages that failed",
            "Why do messages fail?",
            "ops",
            [Query("sum by (reason) (rate(mesh_messages_failed_total[$__rate_interval]))", "{{reason}}")],
            stacked=True,
        ),
        Graph(
            "Waiting in outboxes, by node",
            "Where do messages wait?",
            "short",
            [Query("mesh_outbox_messages", "{{instance}}")],
            stacked=True,
        ),
        Graph(
            "Journal's commits, 95th percentile",
            "How long does Postgres take for a batch?",
            "s",
            [
                Query(
                    quantile(0.95, "mesh_journal_commit_duration_seconds", by="instance"),
                    "{{instance}}",
                )
            ],
        ),
        Graph(
            "Waiting for the journal",
            "Does the database keep up?",
            "short",
            [Query("mesh_journal_waiting_units", "{{instance}}")],
        ),
        Graph(
            "From accepted to sent, 95th percentile",
            "How long do messages take to the network, and to its answer and the recipient?",
            "s",
            [
                Query(quantile(0.95, "mesh_message_accept_duration_seconds"), "accepted"),
                Query(quantile(0.95, "mesh_message_send_delay_seconds"), "sent"),
                Query(quantile(0.95, "mesh_message_ack_duration_seconds"), "acknowledged"),
                Query(quantile(0.95, "mesh_message_delivery_duration_seconds"), "delivered"),
            ],
        ),
    ],
)
