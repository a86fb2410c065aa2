"""The rules of Prometheus, the routes of Alertmanager and the dashboards of Grafana, by their own tools."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.grafana.source.__main__ import DASHBOARDS, FOLDER
from tests.support.alert_cases import CASES, Case
from tests.support.alert_rules import PROMETHEUS, RUNBOOKS, Alert, alerts, expressions, operands, rule_files
from tests.support.tools import require_on_path

INTERVAL = 60
ALERTS = alerts()
PLAYED_APART = {"PartRestarting", "PartMissing", "AlertingWorks"}


def run(program: str, *arguments: str, cwd: Path = PROMETHEUS) -> str:
    """What the program printed; the test fails when it does."""
    require_on_path(program, f"rules, as {program} judges them")
    path = shutil.which(program)
    assert path
    done = subprocess.run([path, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_its_configuration_and_every_rule() -> None:
    run("promtool", "check", "config", "prometheus.yml")
    assert "SUCCESS" in run("promtool", "check", "rules", *map(str, rule_files()))


def test_alertmanager_takes_its_configuration() -> None:
    assert "SUCCESS" in run("amtool", "check-config", "alertmanager.yml")


@pytest.mark.parametrize(
    ("severity", "receiver"), [("page", "page"), ("ticket", "ticket"), ("none", "heartbeat")]
)
def test_an_alert_goes_to_whom_its_severity_names(severity: str, receiver: str) -> None:
    told = run("amtool", "config", "routes", "test", "--config.file=alertmanager.yml", f"severity={severity}")
    assert told.split() == [receiver]


def test_inhibitions_name_alerts_that_there_are() -> None:
    names = {alert.name for alert in ALERTS}
    for rule in yaml.safe_load((PROMETHEUS / "alertmanager.yml").read_text())["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            label, _, value = matcher.partition("=")
            if label == "alertname":
                assert set(value.strip('~"').split("|")) <= names, matcher


def test_every_rule_fires_beyond_its_threshold_and_neither_at_it_nor_too_soon(tmp_path: Path) -> None:
    by_rule = {(alert.name, alert.severity): alert for alert in ALERTS}
    covered = {(case.alert, case.severity) for case in CASES}
    assert covered == {rule for rule in by_rule if rule[0] not in PLAYED_APART}
    for place in rule_files():
        of_file = [case for case in CASES if by_rule[case.alert, case.severity].file == place]
        tests = [test for case in of_file for test in _played(case, by_rule[case.alert, case.severity])]
        _promtool_tests(tmp_path, place, tests)


def test_a_part_that_starts_again_and_again_is_told_of(tmp_path: Path) -> None:
    def played(starts: str, fires: int) -> dict[str, Any]:
        series = {'process_start_time_seconds{job="media", instance="m"}': starts}
        return _test(series, [(600, fires)], "PartRestarting", "page")

    tests = [played("1x2 2x2 3x2 4x99", 1), played("1x2 2x2 3x99", 0)]
    _promtool_tests(tmp_path, PROMETHEUS / "rules" / "ownership.yml", tests)


def test_a_part_that_is_no_target_any_more_is_told_of(tmp_path: Path) -> None:
    def played(second: str, at: int, page: int, ticket: int, first: str = "1x999") -> list[dict[str, Any]]:
        series = {
            'up{job="media", instance="a"}': first,
            'up{job="media", instance="b"}': second,
        }
        fires = {"page": page, "ticket": ticket}
        return [_test(series, [(at, fires[one])], "PartMissing", one) for one in fires]

    gone = "1x60 stale"
    tests = [
        *played(gone, 3_600 + 1_200, page=0, ticket=1),
        *played(gone, 3_600 + 600, page=0, ticket=0),
        *played(gone, 3_600 + 300, page=1, ticket=0, first=gone),
        *played(gone, 3_600 + 120, page=0, ticket=0, first=gone),
        *played("_x60 1x999", 3_600 + 1_200, page=0, ticket=0),
        *played(gone, 5 * 3_600, page=0, ticket=0),
    ]
    _promtool_tests(tmp_path, PROMETHEUS / "rules" / "ownership.yml", tests)


def test_one_alert_always_fires(tmp_path: Path) -> None:
    tests = [_test({"up": "1x9"}, [(60, 1)], "AlertingWorks", "none")]
    _promtool_tests(tmp_path, PROMETHEUS / "rules" / "dependencies.yml", tests)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert.name}-{alert.severity}")
def test_every_alert_tells_what_is_wrong_and_where_to_read_on(alert: Alert) -> None:
    assert alert.severity in {"page", "ticket", "none"}
    assert alert.annotations.keys() == {"summary", "description", "runbook_url"}
    assert alert.annotations["runbook_url"] == f"https://sessionmesh.dev/docs/runbooks/{alert.name}.md"
    assert not re.search(r"\s$|\n", alert.annotations["summary"])


def test_every_alert_has_a_runbook_and_every_runbook_an_alert(record_property: Any) -> None:
    names = {alert.name for alert in ALERTS}
    pages = {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == names
    record_property("alerts", len(names))
    record_property("runbooks", len(pages))


def test_dashboards_are_what_their_source_makes() -> None:
    written = {place.name: place.read_text() for place in FOLDER.glob("*.json")}
    assert written == {f"{board.name}.json": board.json() for board in DASHBOARDS}, (
        "run `python -m deploy.grafana.source`"
    )


def test_panels_name_the_datasource_that_is_provided() -> None:
    provided = yaml.safe_load((FOLDER.parent / "provisioning/datasources/prometheus.yml").read_text())
    uids = {source["uid"] for source in provided["datasources"]}
    for place in FOLDER.glob("*.json"):
        for panel in json.loads(place.read_text())["panels"]:
            assert panel["datasource"]["uid"] in uids
            assert panel["description"].endswith(("?", "."))


def test_operands_are_found_in_whatever_stands_around_them() -> None:
    expression = (
        'histogram_quantile(0.9, sum by (le, a) (rate(x_bucket{m=~"s[.].*"}[5m]))) > 0 or max(y) / on (b) z:w'
    )
    assert operands(expression) == {'x_bucket{m=~"s[.].*"}', "y", "z:w"}
    assert all(operands(one) or "ALERTS" in one or "vector" in one for one in expressions().values())


def _played(case: Case, alert: Alert) -> list[dict[str, Any]]:
    """Beyond the threshold it fires after its time, and not before; at the threshold never."""
    settled = 4200 if "1h" in alert.expression or "_1h" in alert.expression else 600
    soon = [(alert.seconds - INTERVAL, 0)] if alert.seconds > INTERVAL else []
    beyond = _test(
        _values(case, case.beyond), [*soon, (settled + alert.seconds, 1)], case.alert, case.severity
    )
    at = _test(_values(case, case.at), [(settled + alert.seconds, 0)], case.alert, case.severity)
    return [beyond, at]


def _values(case: Case, value: float) -> dict[str, str]:
    filled = {series: how.replace("{v}", f"{value:.10g}") for series, how in case.series.items()}
    return {series: f"0{how}x999" if how[0] == "+" else f"{how}x999" for series, how in filled.items()}


def _test(series: dict[str, str], looks: list[tuple[int, int]], alert: str, severity: str) -> dict[str, Any]:
    asked = f'count(ALERTS{{alertname="{alert}", severity="{severity}", alertstate="firing"}}) or vector(0)'
    return {
        "name": f"{alert} {severity} {series}",
        "interval": f"{INTERVAL}s",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "promql_expr_test": [
            {"expr": asked, "eval_time": f"{at}s", "exp_samples": [{"labels": "{}", "value": fires}]}
            for at, fires in looks
        ],
    }


def _promtool_tests(folder: Path, rules: Path, tests: list[dict[str, Any]]) -> None:
    """Play the tests to one file's rules, and to those that it stands on."""
    written = folder / f"{rules.stem}.test.yml"
    written.write_text(
        yaml.safe_dump(
            {
                "rule_files": sorted({str(rules.with_name("recording.yml")), str(rules)}),
                "evaluation_interval": f"{INTERVAL}s",
                "tests": tests,
            }
        )
    )
    run("promtool", "test", "rules", str(written), cwd=folder)
