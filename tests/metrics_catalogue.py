"""The page of metrics in the docs, made from the catalogue in code.

    python -m tests.metrics_catalogue

writes docs/metrics.md: of every metric its type, its unit, its labels with what they can be, and the question
that it answers. A test holds the page to the catalogue, and what a running mesh shows as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from mesh_core.metrics import CATALOGUE, Metric, Open

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "metrics.md"
PARTS = ("mesh_router", "mesh_session_node", "mesh_media", "mesh_webhook", "mesh_simulator")

HEAD = """# Metrics

Every part shows its own on a port of its own (`MESH_SERVER_METRICS_LISTEN`, `/metrics`), in Prometheus' text
format, or in that of OpenMetrics with exemplars for a scraper that asks for it. Names follow OpenTelemetry's
semantic conventions where there are some (`rpc_*`, `target_info`), and Prometheus' rules: base units,
counters end in `_total`. A histogram `x` is three series, `x_bucket` by `le`, `x_count` and `x_sum`.

No label is of a tenant, an account or anything else that a caller can choose: of each it is written here what
it can be. A value beyond that is counted as `other`, so that there are never more series than this page
allows. What each tenant uses is told by TenantService.GetTenantUsage ([api.md](api.md#what-a-tenant-uses)).

Counters whose labels are all listed are there from the start, with 0. Gauges are there once something has set
them: a part does not show what it does not do.

This page is made by `python -m tests.metrics_catalogue` from where each is declared.
"""
SECTIONS = (
    ("rpc_", "Calls", "Every part; `rpc_client_*` is of what a router sends to the other parts."),
    ("mesh_limits_", "Limits", "Every part that callers reach. [limits.md](limits.md) has the limits."),
    ("mesh_auth_", "Keys", "Every part."),
    ("mesh_audit_", "Audit", "Every part that callers reach."),
    ("mesh_cache_", "Caches", "Where each is: keys in every part, the others in session-nodes."),
    ("mesh_session", "Sessions", "Session-nodes. [sessions.md](sessions.md)."),
    ("mesh_network_", "Networks", "Session-nodes."),
    ("mesh_message", "Messages", "Session-nodes."),
    ("mesh_outbox_", "Outbox", "Session-nodes."),
    ("mesh_journal_", "Journal", "Session-nodes: what they write to Postgres."),
    ("mesh_ownership_", "Ownership", "Session-nodes. [ownership.md](ownership.md)."),
    ("mesh_node_", "Forwarding", "Session-nodes."),
    ("mesh_foreign_", "What networks send", "Session-nodes."),
    ("mesh_notices_", "Notices", "Session-nodes."),
    ("mesh_whatsapp_web_", "The sidecar of linked devices", "Session-nodes. [whatsapp.md](whatsapp.md)."),
    ("mesh_fleet_", "Fleet", "Routers. [fleet.md](fleet.md)."),
    ("mesh_xds_", "xDS", "Routers. [routing.md](routing.md)."),
    ("mesh_retention_", "Retention", "Routers. [retention.md](retention.md)."),
    ("mesh_webhook_", "Webhooks", "The webhook part. [webhooks.md](webhooks.md)."),
    ("mesh_event_streams", "Event streams", "The webhook part."),
    ("mesh_subscription", "Subscriptions", "The webhook part; routers for those that expired."),
    (
        "mesh_media_",
        "Media",
        "The media part; `mesh_media_transfers_total` session-nodes. [media.md](media.md).",
    ),
    ("mesh_database_", "Postgres", "Pools: every part with one. The server as a whole: routers."),
    ("", "Processes", "Every part."),
)
"""Beginnings of names, what they are about, and who shows them."""


def catalogue() -> dict[str, Metric]:
    """Every metric of every part, by its name."""
    for part in PARTS:
        import_module(f"{part}.__main__")
    return CATALOGUE


def page() -> str:
    """The page as it should be."""
    left, sections = dict(sorted(catalogue().items())), []
    for prefix, title, who in SECTIONS:
        rows = [_row(left.pop(name)) for name in [*left] if name.startswith(prefix)]
        sections.append(f"\n## {title}\n\n{who}\n\n{_TABLE}{''.join(rows)}")
    return HEAD + "".join(sections)


_TABLE = """| metric | type | unit | labels | what it is | the question it answers |
|---|---|---|---|---|---|
"""


def _row(metric: Metric) -> str:
    labels = "<br>".join(_labels(metric))
    cells = (f"`{metric.name}`", metric.kind, metric.unit or "1", labels, metric.meaning, metric.answers)
    return f"| {' | '.join(cells)} |\n"


def _labels(metric: Metric) -> Iterator[str]:
    for name, values in metric.labels.items():
        if isinstance(values, Open):
            yield f"`{name}`: {values.what}, at most {values.most:,}"
        else:
            yield f"`{name}`: " + ", ".join(f"`{value}`" for value in values)


def main() -> None:
    """Writes it."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
