"""Webhooks: do events reach their endpoints?"""

from __future__ import annotations

from deploy.grafana.source.panels import Dashboard, Graph, Number, Query, quantile

WEBHOOKS = Dashboard(
    "webhooks",
    "Do events reach their endpoints, how soon, and what waits?",
    [
        Number(
            "Attempts that fail",
            "Which share of the attempts of the last hour failed? The target is 2 % at most.",
            "percentunit",
            Query("mesh:webhook_failures:ratio_1h"),
            0.02,
            0.05,
        ),
        Number(
            "Waiting",
            "How many deliveries wait? It counts to 10,000.",
            "short",
            Query("max(mesh_webhook_pending_deliveries)"),
            500,
            1000,
        ),
        Number(
            "Oldest due",
            "How long has the delivery that is due longest been due?",
            "s",
            Query("max(mesh_webhook_oldest_due_seconds)"),
            30,
            300,
        ),
        Number(
            "Standstill",
            "For how long has no event become a delivery though some wait?",
            "s",
            Query("max(mesh_webhook_fan_out_standstill_seconds)"),
            10,
            30,
        ),
        Number(
            "Owed",
            "Of how many events are deliveries still to be made?",
            "short",
            Query("max(mesh_webhook_owed_events)"),
            1000,
            10000,
        ),
        Number(
            "Streams",
            "How many callers follow events by a stream?",
            "short",
            Query("sum(mesh_event_streams)"),
        ),
        Graph(
            "Attempts",
            "How many requests go out, and what becomes of them?",
            "ops",
            [Query("sum by (outcome) (rate(mesh_webhook_attempts_total[$__rate_interval]))", "{{outcome}}")],
            stacked=True,
        ),
        Graph(
            "Duration of attempts",
            "How long do endpoints take to answer?",
            "s",
            [
                Query(
                    quantile(0.5, "mesh_webhook_attempt_duration_seconds"),
                    "median",
                ),
                Query(
                    quantile(0.95, "mesh_webhook_attempt_duration_seconds"),
                    "95th percentile",
                ),
            ],
        ),
        Graph(
            "From event to first attempt",
            "How soon is an endpoint told?",
            "s",
            [
                Query(
                    quantile(0.5, "mesh_webhook_first_attempt_delay_seconds"),
                    "median",
                ),
                Query(
                    quantile(0.95, "mesh_webhook_first_attempt_delay_seconds"),
                    "95th percentile",
                ),
            ],
        ),
        Graph(
            "Waiting",
            "Does the queue grow?",
            "short",
            [Query("max(mesh_webhook_pending_deliveries)", "deliveries")],
        ),
        Graph(
            "Events",
            "How many events are turned into deliveries, and how old are they then?",
            "ops",
            [Query("sum(rate(mesh_webhook_events_total[$__rate_interval]))", "events")],
        ),
        Graph(
            "Under way",
            "How many requests wait for an answer?",
            "short",
            [Query("mesh_webhook_requests_in_flight", "{{instance}}")],
            stacked=True,
        ),
    ],
)
