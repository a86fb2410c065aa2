"""Lanes: which test files run side by side, in what order, when pytest-xdist has several workers.

A file's tests stay together in one lane, as they share a world; those of `tests/acceptance` stay together,
too, as they share a mesh. All files stand in one row. The last lane takes them from its end: one service with
real servers, which mostly computes. The others take from its front: whole meshes, which mostly wait (for a
lease to run out, for another process to start), so that there may be one lane more than there are cores.
Where they meet lie many small files, so no lane waits long for the others.

Without `-n` this does nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import pytest
from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.workermanage import WorkerController

SHARED_MESH = "tests/acceptance/"
ROW = (
    SHARED_MESH,
    "tests/faults/test_single_faults.py",
    "tests/faults/test_random_operations.py",
    "tests/faults/",
    "tests/deploy/",
    "tests/contract/",
    "tests/properties/",
    "tests/unit/",
    "tests/integration/",
)
QUICK = ("tests/unit/", "tests/properties/", "tests/contract/", "tests/integration/")
"""Folders whose tests `make test-quick` runs, but for those that are marked `slow`."""


class Lanes(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """The last worker takes from the end of the row, every other one from its front."""

    def _split_scope(self, nodeid: str) -> str:
        return SHARED_MESH if nodeid.startswith(SHARED_MESH) else nodeid.partition("::")[0]

    def _assign_work_unit(self, node: WorkerController) -> None:
        if node is self.nodes[-1]:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Lanes:
    config.option.loadscopereorder = False  # else the files with most tests come first
    return Lanes(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected lives until the end: the garbage collector need not look through it over and over."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(QUICK) and item.get_closest_marker("slow") is None:
            item.add_marker("quick")
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: place_in_row(item.nodeid, ROW))


def place_in_row(nodeid: str, row: Sequence[str]) -> int:
    """The first place whose path begins the test's; what has none comes last."""
    return next((place for place, path in enumerate(row) if nodeid.startswith(path)), len(row))
