"""What `mesh doctor --whatsapp` makes of what it sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh_cli.commands.doctor import whatsapp_checks
from mesh_cli.commands.doctor.findings import Verdict
from tests.support import fake_sidecar

NOON = "Mon, 30 Nov 2026 12:00:00 GMT"
NOON_SECONDS = 1_796_040_000.0


@pytest.mark.parametrize(
    ("off", "verdict"), [(0.0, "good"), (-59.0, "good"), (61.0, "wrong"), (-3600.0, "wrong")]
)
def test_a_clock_may_be_off_by_a_minute(off: float, verdict: str) -> None:
    assert whatsapp_checks._clock(NOON, NOON_SECONDS + off).verdict == verdict


def test_a_date_that_is_none_says_nothing_of_the_clock() -> None:
    assert whatsapp_checks._clock("yesterday", NOON_SECONDS).verdict is Verdict.GOOD


def test_the_newest_client_is_named_where_the_page_says_it() -> None:
    found = whatsapp_checks._version("2.3000.1", b'... \\"client_revision\\":1047769999, ...')
    assert "1047769999" in found.seen
    assert "does not say" in whatsapp_checks._version("2.3000.1", b"<html>").seen


def test_a_network_without_names_is_a_finding_and_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESH_WHATSAPP_WEB_SIDECAR", str(fake_sidecar.install(tmp_path)))
    findings = whatsapp_checks.whatsapp_checks("https://nowhere.invalid")
    by_subject = {finding.subject: finding for finding in findings}
    assert "2.3000" in by_subject["sidecar"].seen
    assert by_subject["name"].verdict is Verdict.WRONG
    assert "not known" in by_subject


def test_a_missing_sidecar_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_WHATSAPP_WEB_SIDECAR", "/nowhere/sidecar")
    findings = whatsapp_checks.whatsapp_checks("https://nowhere.invalid")
    assert [finding.verdict for finding in findings if finding.subject == "sidecar"] == [Verdict.WRONG]
