"""Writes every dashboard; see the package."""

from __future__ import annotations

from pathlib import Path

from deploy.grafana.source.dependencies import DEPENDENCIES
from deploy.grafana.source.fleet import FLEET
from deploy.grafana.source.media import MEDIA
from deploy.grafana.source.messages import MESSAGES
from deploy.grafana.source.node import NODE
from deploy.grafana.source.sessions import SESSIONS
from deploy.grafana.source.webhooks import WEBHOOKS

FOLDER = Path(__file__).parents[1] / "dashboards"
DASHBOARDS = (FLEET, NODE, SESSIONS, MESSAGES, WEBHOOKS, MEDIA, DEPENDENCIES)

if __name__ == "__main__":
    for dashboard in DASHBOARDS:
        (FOLDER / f"{dashboard.name}.json").write_text(dashboard.json())
