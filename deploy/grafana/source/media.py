"""Media: are files taken, stored and served?"""

from __future__ import annotations

from deploy.grafana.source.panels import Dashboard, Graph, Number, Query

MEDIA = Dashboard(
    "media",
    "Are files taken, stored and served, and what waits?",
    [
        Number(
            "To be processed",
            "How many files wait to be processed or fetched?",
            "short",
            Query("max(mesh_media_work_waiting)"),
            100,
            1000,
        ),
        Number(
            "Lost in an hour",
            "How many files that were accepted became FAILED?",
            "short",
            Query("sum(increase(mesh_media_failures_total[1h]))"),
            1,
            11,
        ),
        Number(
            "Damaged in an hour",
            "How many downloads found a stored file lost or changed?",
            "short",
            Query("sum(increase(mesh_media_damaged_downloads_total[1h]))"),
            1,
            2,
        ),
        Number(
            "Tenants nearly full",
            "How many tenants use 80 % of their quota or more?",
            "short",
            Query("max(mesh_media_nearly_full_tenants)"),
            1,
            5,
        ),
        Graph(
            "Files taken",
            "What comes, and how?",
            "ops",
            [
                Query(
                    "sum by (kind, origin) (rate(mesh_media_uploads_total[$__rate_interval]))",
                    "{{kind}} {{origin}}",
                )
            ],
            stacked=True,
        ),
        Graph(
            "Bytes taken, and stored",
            "What does making files smaller save?",
            "Bps",
            [
                Query("sum(rate(mesh_media_uploaded_bytes_total[$__rate_interval]))", "came"),
                Query("sum(rate(mesh_media_stored_bytes_total[$__rate_interval]))", "stored"),
            ],
        ),
        Graph(
            "Bytes served",
            "What goes out?",
            "Bps",
            [Query("sum(rate(mesh_media_downloaded_bytes_total[$__rate_interval]))", "served")],
        ),
        Graph(
            "Waiting for a worker",
            "Which kind of file has to wait?",
            "short",
            [Query("sum by (lane) (mesh_media_processing_waiting)", "{{lane}}")],
        ),
        Graph(
            "Files of messages",
            "Do files move between the network and the store?",
            "ops",
            [
                Query(
                    "sum by (direction, outcome) (rate(mesh_media_transfers_total[$__rate_interval]))",
                    "{{direction}} {{outcome}}",
                )
            ],
        ),
        Graph(
            "Deleted",
            "How much is deleted, and does the store let go of it?",
            "ops",
            [
                Query("sum(rate(mesh_media_deleted_objects_total[$__rate_interval]))", "deleted"),
                Query("sum(rate(mesh_media_stuck_objects_total[$__rate_interval]))", "stuck"),
            ],
        ),
    ],
)
