"""What `python -m tests.api_report` makes of the records of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import api_report
from tests.support.answers.records import Records
from tests.support.api_methods import named, public_methods

SEND, GET, LIST = (named(name).path for name in ("SendMessage", "GetMessage", "ListMessages"))
NODE = "mesh_session_node.calls.messages.message_service"
RELAY = "mesh_router.proxy.unary"


class Run:
    """The records of one lane, written as the recorder and the plugin write them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._now = 0

    def test(
        self,
        *answers: str,
        name: str = "test_it",
        passed: bool = True,
        read_back: tuple[str, ...] = (),
        **figures: int,
    ) -> None:
        """A test during which these were answered: `PATH CODE REASON MODULE`."""
        begin = self._now
        with (self._folder / "main-1.answers").open("a") as file:
            for answer in answers:
                self._now += 1
                file.write(f"{self._now} {answer}\n")
        self._now += 1
        window = {"test": name, "begin": begin, "passed": passed, "read_back": read_back, "figures": figures}
        with (self._folder / "main.tests").open("a") as file:
            file.write(json.dumps(window) + "\n")
        self._now += 1

    def figures(self) -> dict[str, float]:
        records = Records(self._folder)
        return api_report.figures(api_report.show(records)) | api_report.counted(records)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_a_method_is_served_that_a_server_of_ours_answered_ok(run: Run) -> None:
    run.test(f"{SEND} OK - {NODE}", f"{GET} NOT_FOUND RESOURCE_NOT_FOUND {NODE}", f"{GET} OK - {NODE}")
    figures = run.figures()
    assert (figures["calls"], figures["calls_served"]) == (len(public_methods()), 2)


@pytest.mark.parametrize(
    "answer",
    [
        f"{SEND} UNIMPLEMENTED NOT_SERVED {NODE}",
        f"{SEND} OK - tests.integration.test_router_proxy",
        f"{SEND} OK - {RELAY}",
        f"{SEND} INVALID_ARGUMENT INVALID_FIELD {NODE}",
    ],
)
def test_neither_stand_ins_nor_relays_nor_refusals_show_that_a_method_is_served(
    run: Run, answer: str
) -> None:
    run.test(answer, read_back=(SEND,))
    assert run.figures()["calls_served"] == run.figures()["served_tested_ok"] == 0


def test_an_effect_counts_that_a_passed_test_read_back_after_an_ok(run: Run) -> None:
    run.test(f"{SEND} OK - {NODE}", read_back=(SEND,))
    assert run.figures()["served_tested_ok"] == 1


def test_an_effect_does_not_count_that_nobody_read_back(run: Run) -> None:
    run.test(f"{SEND} OK - {NODE}")
    assert run.figures()["served_tested_ok"] == 0


def test_a_declaration_alone_does_not_count(run: Run) -> None:
    run.test(f"{SEND} OK - {NODE}", name="test_before")
    run.test(f"{SEND} NOT_FOUND RESOURCE_NOT_FOUND {NODE}", f"{GET} OK - {NODE}", read_back=(SEND,))
    assert run.figures()["served_tested_ok"] == 0


def test_a_failed_test_shows_nothing(run: Run) -> None:
    refused = f"{SEND} INVALID_ARGUMENT INVALID_FIELD {NODE}"
    run.test(f"{SEND} OK - {NODE}", refused, passed=False, read_back=(SEND,))
    figures = run.figures()
    assert (figures["served_tested_ok"], figures["served_tested_bad"]) == (0, 0)


def test_a_refusal_counts_that_is_for_what_the_caller_did(run: Run) -> None:
    run.test(f"{SEND} OK - {NODE}", f"{GET} OK - {NODE}")
    run.test(f"{SEND} INVALID_ARGUMENT INVALID_FIELD {NODE}", f"{GET} UNAVAILABLE NOT_OWNER {NODE}")
    assert run.figures()["served_tested_bad"] == 1


def test_the_fuzz_is_counted_at_the_router_and_by_the_method_with_the_fewest(run: Run) -> None:
    for method, near, random in (("SendMessage", 3, 1), ("GetMessage", 1, 1)):
        path = named(method).path
        answers = [f"{path} OK - {RELAY}", f"{path} OK - {NODE}"]
        run.test(*answers * near, name=f"{api_report.NEAR}MessageService.{method}]")
        run.test(*answers * random, name=f"{api_report.RANDOM}MessageService.{method}]")
    figures = run.figures()
    assert (figures["fuzz_messages_per_call"], figures["fuzz_near_valid_percent"]) == (2, 50)


def test_the_fuzz_tells_what_got_past_validation_and_what_broke(run: Run) -> None:
    run.test(f"{SEND} OK - {NODE}")
    codes = ["OK -"] * 2 + ["INVALID_ARGUMENT INVALID_FIELD"] * 2 + ["INTERNAL INTERNAL"]
    run.test(
        *(f"{SEND} {code} {RELAY}" for code in codes), name=f"{api_report.NEAR}MessageService.SendMessage]"
    )
    figures = run.figures()
    assert (figures["fuzz_past_validation_percent"], figures["fuzz_internal"]) == (60, 1)


def test_what_the_fuzz_is_answered_is_not_tested_by_it(run: Run) -> None:
    name = f"{api_report.RANDOM}MessageService.SendMessage]"
    run.test(f"{SEND} INVALID_ARGUMENT INVALID_FIELD {NODE}", name=name)
    assert run.figures()["served_tested_bad"] == 0


def test_lanes_are_told_apart(run: Run, tmp_path: Path) -> None:
    """What another lane was answered at the same time is not this test's."""
    run.test(f"{GET} OK - {NODE}", read_back=(SEND,))
    (tmp_path / "gw1-2.answers").write_text(f"1 {SEND} OK - {NODE}\n")
    assert run.figures()["served_tested_ok"] == 0


def test_the_table_says_what_each_served_method_lacks(run: Run, tmp_path: Path) -> None:
    run.test(f"{SEND} OK - {NODE}", f"{LIST} UNIMPLEMENTED NOT_SERVED {NODE}", read_back=(SEND,))
    shown = api_report.show(Records(tmp_path))
    table = api_report.table(shown, api_report.figures(shown), 1).splitlines()
    lacking = next(line for line in table if line.startswith("MessageService.SendMessage "))
    assert lacking.split(None, 1)[1] == "never refused, fuzzed 0 times"
    assert not any(line.startswith("MessageService.ListMessages ") for line in table)


@pytest.mark.parametrize(
    ("reason", "refused"), [("SCOPE_MISSING", 1), ("TENANT_SUSPENDED", 1), ("ACCOUNT_NOT_CONNECTED", 0)]
)
def test_a_relay_refuses_by_itself_only_keys(run: Run, reason: str, refused: int) -> None:
    run.test(f"{SEND} OK - {NODE}", f"{SEND} PERMISSION_DENIED {reason} {RELAY}")
    assert run.figures()["served_tested_bad"] == refused


def test_what_a_test_counted_itself_is_in_the_report_whether_it_passed_or_not(run: Run) -> None:
    run.test(name="test_leaks", passed=False, cross_tenant_leaks=3, something_else=1)
    figures = run.figures()
    assert figures["cross_tenant_leaks"] == 3
    assert "content_kinds" not in figures
    assert "something_else" not in figures
