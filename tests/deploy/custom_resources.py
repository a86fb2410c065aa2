"""The fields of other people's resources that the chart uses: a misspelt one goes unnoticed elsewhere.

As the Prometheus operator (monitoring.coreos.com/v1) and KEDA (keda.sh/v1alpha1) have them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

ANY: Mapping[str, Any] = {}
"""Whatever is in it is the user's."""
TEXT = "text"
NUMBER = "number"
METADATA = {"name": TEXT, "labels": ANY}
RULE = {
    "alert": TEXT,
    "record": TEXT,
    "expr": TEXT,
    "for": TEXT,
    "labels": ANY,
    "annotations": ANY,
}
SPECS: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("monitoring.coreos.com/v1", "PodMonitor"): {
        "jobLabel": TEXT,
        "selector": {"matchLabels": ANY},
        "podMetricsEndpoints": [{"port": TEXT, "path": TEXT, "interval": TEXT}],
    },
    ("monitoring.coreos.com/v1", "PrometheusRule"): {
        "groups": [{"name": TEXT, "interval": TEXT, "rules": [RULE]}]
    },
    ("keda.sh/v1alpha1", "ScaledObject"): {
        "scaleTargetRef": {"apiVersion": TEXT, "kind": TEXT, "name": TEXT},
        "minReplicaCount": NUMBER,
        "maxReplicaCount": NUMBER,
        "fallback": {"failureThreshold": NUMBER, "replicas": NUMBER, "behavior": TEXT},
        "advanced": {
            "horizontalPodAutoscalerConfig": {
                "behavior": {
                    "scaleDown": {
                        "stabilizationWindowSeconds": NUMBER,
                        "policies": [{"type": TEXT, "value": NUMBER, "periodSeconds": NUMBER}],
                    }
                }
            }
        },
        "triggers": [
            {
                "type": TEXT,
                "metricType": TEXT,
                "metadata": {"serverAddress": TEXT, "query": TEXT, "threshold": TEXT},
            }
        ],
    },
}


def unknown_fields(found: Mapping[str, Any]) -> list[str]:
    """The places in an object that its kind has not, or that hold something else."""
    spec = SPECS.get((found["apiVersion"], found["kind"]))
    if spec is None:
        return [f"{found['apiVersion']} {found['kind']}"]
    known = {"apiVersion": TEXT, "kind": TEXT, "metadata": METADATA, "spec": spec}
    return list(_unknown(found, known, ""))


def _unknown(value: Any, known: Any, place: str) -> Iterator[str]:
    if known is ANY:
        return
    if isinstance(known, dict) and isinstance(value, dict):
        for key, child in value.items():
            if key in known:
                yield from _unknown(child, known[key], f"{place}.{key}")
            else:
                yield f"{place}.{key}"
    elif isinstance(known, list) and isinstance(value, list):
        for child in value:
            yield from _unknown(child, known[0], f"{place}[]")
    elif (known, type(value)) not in {(TEXT, str), (NUMBER, int)} if isinstance(known, str) else True:
        yield place
