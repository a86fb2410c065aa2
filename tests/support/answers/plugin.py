"""A pytest plugin: records what all servers answer to each test, for `python -m tests.api_report`.

`@pytest.mark.read_back("SendMessage", "GroupService.CreateGroup")` says of a test that it sees the effect of
these calls by other means: another call, an event, the network's ledger. (A call that reads counts as well:
what it answers is compared with what another call wrote.) It counts if the test passes and real servers are
on record with an OK of these methods while it ran.

What a test says by pytest's `record_property` is on record, too: figures that the test alone can count.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic_ns
from typing import Any

import pytest

from tests.support.answers import sitecustomize
from tests.support.api_methods import named

MARK = "read_back"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"{MARK}(*methods): sees what these calls did by other means (tests/support/answers)"
    )
    is_worker = hasattr(config, "workerinput")
    if not is_worker:
        if sitecustomize.FOLDER_VARIABLE not in os.environ:
            os.environ[sitecustomize.FOLDER_VARIABLE] = str(_folder_of_this_run(_runs(config.rootpath)))
        _lead_subprocesses_here()
    folder = Path(os.environ[sitecustomize.FOLDER_VARIABLE])
    folder.mkdir(parents=True, exist_ok=True)
    # Tests hand their own path on to what they start
    sys.path.insert(0, str(Path(sitecustomize.__file__).parent))
    if getattr(sys.modules.get("sitecustomize"), "__file__", "") != sitecustomize.__file__:
        sitecustomize.install()  # a lane's process was started with it already
    config.pluginmanager.register(Windows(folder / f"{sitecustomize.lane()}.tests"))


def last_run(root: Path) -> Path:
    """Where the records of the run lie that began last. Raises `FileNotFoundError` when there was none."""
    runs = sorted(_runs(root).glob("[0-9]*"), key=lambda run: run.stat().st_mtime)
    if not runs:
        raise FileNotFoundError(f"no test run is on record in {_runs(root)}")
    return runs[-1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        read_back(item)  # a name that is no method's fails the run here, not in the report


def read_back(item: pytest.Item) -> list[str]:
    """The methods that a test declares, as /service/method; raises `KeyError` for a name that is none."""
    marks = item.iter_markers(MARK)
    return sorted({named(name).path for mark in marks for name in mark.args})


class Windows:
    """Writes when each test began, and how it ended: one JSON object a line."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._failed: set[str] = set()
        self._figures: dict[str, dict[str, object]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        begin = monotonic_ns()
        result = yield
        window: dict[str, Any] = {
            "test": item.nodeid,
            "begin": begin,
            "passed": item.nodeid not in self._failed,
            "read_back": read_back(item),
            "figures": self._figures.pop(item.nodeid, {}),
        }
        with self._place.open("a") as file:
            file.write(json.dumps(window) + "\n")
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self._failed.add(report.nodeid)
        # Each report has what was said until then; what fixtures count, they say at their end.
        self._figures[report.nodeid] = dict(report.user_properties)


def _runs(root: Path) -> Path:
    return root / ".pytest_cache" / "answers"


def _folder_of_this_run(runs: Path) -> Path:
    """A folder named for this process. Those of runs that have ended go; others may run in this checkout."""
    for run in runs.glob("[0-9]*"):
        if not Path("/proc", run.name).exists():
            shutil.rmtree(run, ignore_errors=True)
    return runs / str(os.getpid())


def _lead_subprocesses_here() -> None:
    """Have every Python that tests start with our environment run `sitecustomize`."""
    folder = str(Path(sitecustomize.__file__).parent)
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (folder, inherited)))
