"""What a logger takes while levels are set for it, for what is above it, or for all."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from mesh_core.process import logs
from mesh_core.process.levels import Levels
from mesh_core.settings import TelemetrySettings
from mesh_core.telemetry.redaction import Redaction

DEBUG, INFO, ERROR = logging.DEBUG, logging.INFO, logging.ERROR


@pytest.mark.parametrize(
    ("levels", "name", "takes"),
    [
        ({}, "mesh_core.etcd.follow", INFO),
        ({"": DEBUG}, "mesh_core.etcd.follow", DEBUG),
        ({"mesh_core.etcd": DEBUG}, "mesh_core.etcd.follow", DEBUG),
        ({"mesh_core.etcd": DEBUG}, "mesh_core.etcd", DEBUG),
        ({"mesh_core.etcd": DEBUG}, "mesh_core.etcdlike", INFO),
        ({"": ERROR, "mesh_core": INFO, "mesh_core.etcd": DEBUG}, "mesh_core.etcd.follow", DEBUG),
        ({"": ERROR, "mesh_core": INFO, "mesh_core.etcd": DEBUG}, "mesh_core.rpc", INFO),
        ({"": ERROR, "mesh_core": INFO}, "mesh_router", ERROR),
    ],
)
def test_the_nearest_name_above_counts(levels: dict[str, int], name: str, takes: int) -> None:
    made = Levels(INFO)
    made.replace(levels)
    assert made.of(name) == takes
    made.replace({})
    assert made.of(name) == INFO


@pytest.mark.usefixtures("logging_put_back")
def test_loggers_follow_at_once_and_fall_back(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("test", TelemetrySettings(log_format="json"), Redaction())
    ours, other, library = (
        structlog.get_logger("mesh_core.etcd.follow"),
        structlog.get_logger("mesh_core.rpc"),
        logging.getLogger("library.http"),
    )

    def said() -> list[tuple[str, str]]:
        for logger in (ours, other, library):
            logger.debug("detail")
            logger.error("fault")
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        return [(line["logger"], line["event"]) for line in lines]

    faults = [(name, "fault") for name in ("mesh_core.etcd.follow", "mesh_core.rpc", "library.http")]
    assert said() == faults
    logs.replace_levels({"mesh_core.etcd": DEBUG, "library": DEBUG})
    assert said() == [("mesh_core.etcd.follow", "detail"), *faults[:2], ("library.http", "detail"), faults[2]]
    logs.replace_levels({})
    assert said() == faults


@pytest.mark.usefixtures("logging_put_back")
@pytest.mark.parametrize("name", ["root", "library.with_a_level"])
def test_what_has_a_level_of_its_own_has_it_again(name: str) -> None:
    library = logging.getLogger(name)
    library.setLevel(ERROR)
    levels = Levels(INFO)
    levels.replace({name: DEBUG})
    levels.replace({name: INFO})
    assert library.level == INFO
    levels.replace({})
    assert library.level == ERROR
