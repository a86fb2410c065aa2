"""A log file that grows while a test looks at it."""

from __future__ import annotations

from pathlib import Path

from tests.support.log import Log


def test_a_line_counts_once_it_is_whole(tmp_path: Path) -> None:
    log = Log(tmp_path / "process.log")
    assert not log.says("ready")
    with log.path.open("w") as file:
        file.write("starting\nrea")
        file.flush()
        assert log.lines() == ["starting"]
        file.write("dy\n\n")
        file.flush()
        assert log.says("ready")
        assert log.lines() == ["starting", "ready", ""]
    assert log.lines() == ["starting", "ready", ""]


def test_events_are_lines_of_json_among_others(tmp_path: Path) -> None:
    log = Log(tmp_path / "process.log")
    log.path.write_text('{"event": "serving", "port": 1}\nserving\n{"event": "draining", "of": "serving"}\n')
    assert log.events("serving") == [{"event": "serving", "port": 1}]
