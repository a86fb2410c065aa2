"""A test that cannot run for want of a program says so, and CI takes no such excuse."""

from __future__ import annotations

import pytest

from tests.support.tools import require_on_path

ABSENT = "no-such-program"


def test_what_needs_a_missing_program_is_skipped_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=f"{ABSENT} is not on PATH. NOT TESTED: THE CLIENT"):
        require_on_path(ABSENT, "the client")


def test_ci_fails_without_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="NOT TESTED: THE CLIENT"):
        require_on_path(ABSENT, "the client")


def test_a_program_that_is_there_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    require_on_path("sh", "the client")
