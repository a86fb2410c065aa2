"""The rules and panels of `deploy/`, as tests need them: by alert, and by the series that they ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
RUNBOOKS = ROOT / "docs" / "runbooks"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule. Two rules may share a name, and differ in severity and threshold."""

    name: str
    severity: str
    expression: str
    seconds: int
    """For how long it must hold."""
    annotations: dict[str, str]
    file: Path


def rule_files() -> list[Path]:
    return sorted((PROMETHEUS / "rules").glob("*.yml"))


def alerts() -> list[Alert]:
    return [
        Alert(
            rule["alert"],
            rule["labels"]["severity"],
            rule["expr"],
            _seconds(rule.get("for", "0s")),
            rule["annotations"],
            place,
        )
        for place, rule in _rules()
        if "alert" in rule
    ]


def expressions() -> dict[str, str]:
    """Every expression of rules and panels, by where it stands. Grafana's variables are filled in."""
    found = {f"{rule.get('alert', rule.get('record'))}": rule["expr"] for _, rule in _rules()}
    for place in sorted(DASHBOARDS.glob("*.json")):
        for panel in json.loads(place.read_text())["panels"]:
            for target in panel["targets"]:
                filled = target["expr"].replace("$__rate_interval", "5m").replace("$instance", ".*")
                found[f"{place.name}: {panel['title']}, {target['refId']}"] = filled
    return found


def operands(expression: str) -> set[str]:
    """The series that an expression asks for, as selectors; not those that alerts make themselves."""
    bare = _GROUPING.sub(" ", expression)
    return {
        f"{name}{labels}"
        for name, labels in _SELECTOR.findall(bare)
        if name not in _WORDS and not _NUMBER.fullmatch(name) and name != "ALERTS"
    }


def _rules() -> Iterator[tuple[Path, dict[str, Any]]]:
    for place in rule_files():
        for group in yaml.safe_load(place.read_text())["groups"]:
            for rule in group["rules"]:
                yield place, rule


def _seconds(duration: str) -> int:
    number, unit = int(duration[:-1]), duration[-1]
    return number * {"s": 1, "m": 60, "h": 3600}[unit]


_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)|\[\d+[smhd]\]")
_SELECTOR = re.compile(r"(?<![\w:.])([a-zA-Z_:][\w:]*)(?![\w:])\s*(\{[^}]*\})?(?!\s*\()")
_NUMBER = re.compile(r"[iI]nf|NaN")
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "by"})
