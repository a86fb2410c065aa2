"""The dashboards. `python -m deploy.grafana.source` writes `deploy/grafana/dashboards/*.json` anew."""
