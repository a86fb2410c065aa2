"""The figures that tests count of deployments, as `python -m tests.deploy_report` adds them up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

from tests import deploy_report
from tests.support.answers.plugin import Windows
from tests.support.answers.records import Records


def test_figures_of_several_tests_are_added(tmp_path: Path) -> None:
    report = _report(tmp_path, {"deploy_mutations": 2}, {"deploy_mutations": 3}, {"unrelated": 9})
    assert report == {"deploy_mutations": 5}


def test_a_figure_that_is_nought_is_there(tmp_path: Path) -> None:
    assert _report(tmp_path, {"rolling_failed_calls": 0}) == {"rolling_failed_calls": 0}


def test_runs_are_added(tmp_path: Path) -> None:
    runs = [_run(tmp_path / name, {"alerts": 4}) for name in ("first", "second")]
    place = tmp_path / "figures.json"
    deploy_report.main(["--json", str(place), *(word for run in runs for word in ("--records", str(run)))])
    assert json.loads(place.read_text()) == {"alerts": 8}


def test_what_a_fixture_counts_at_its_end_is_a_figure_of_its_test(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    def reported(when: Literal["call", "teardown"], *said: tuple[str, object]) -> pytest.TestReport:
        item = request.node
        return pytest.TestReport(item.nodeid, item.location, {}, "passed", None, when, user_properties=said)

    windows = Windows(tmp_path / "lane.tests")
    running = windows.pytest_runtest_protocol(request.node)
    next(running)
    windows.pytest_runtest_logreport(reported("call", ("alerts", 2)))
    windows.pytest_runtest_logreport(reported("teardown", ("alerts", 2), ("alerts_fired_for_real", 1)))
    with pytest.raises(StopIteration):
        next(running)
    assert deploy_report.figures([Records(tmp_path)]) == {"alerts": 2, "alerts_fired_for_real": 1}


def _report(folder: Path, *counted: dict[str, int]) -> dict[str, float]:
    place = folder / "figures.json"
    deploy_report.main(["--records", str(_run(folder / "run", *counted)), "--json", str(place)])
    report: dict[str, float] = json.loads(place.read_text())
    return report


def _run(folder: Path, *counted: dict[str, int]) -> Path:
    """The records of a run in which each test counted one of `counted`."""
    folder.mkdir()
    lines = [
        {"test": f"test_{number}", "begin": number, "passed": True, "read_back": [], "figures": figures}
        for number, figures in enumerate(counted)
    ]
    (folder / "main.tests").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
