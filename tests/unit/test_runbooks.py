"""What the runbooks tell to type exists: commands with their options, and words to look for in logs."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from mesh_cli.__main__ import app
from tests.support.alert_rules import ROOT, RUNBOOKS, alerts

PAGES = sorted(RUNBOOKS.glob("*.md"))
SOURCES = ("lib", "services", "cli")


def commands() -> Iterator[tuple[str, str]]:
    """Every `mesh ...` of a page or of an alert's description, by where it stands."""
    texts = {page.stem: page.read_text() for page in PAGES}
    texts |= {f"{one.name}, {one.severity}": one.annotations["description"] for one in alerts()}
    for place, text in texts.items():
        for found in re.findall(r"^mesh .*$|`mesh [a-z][^`]*`", text, flags=re.MULTILINE):
            yield place, found.strip("`")


def test_every_command_of_a_runbook_can_be_typed() -> None:
    wrong = {f"{place}: {typed}: {problem}" for place, typed in commands() if (problem := refused(typed))}
    assert wrong == set()


def refused(typed: str) -> str:
    """Why the command line takes no such words; empty: it does."""
    command = _mesh()
    words = shlex.split(typed)[1:]
    context = command.context_class(command)
    while hasattr(command, "get_command") and words and not words[0].startswith("-"):
        command = command.get_command(context, words[0])
        if command is None:
            return f"there is no {words[0]}"
        words = words[1:]
        context = command.context_class(command, parent=context)
    try:
        _, rest, _ = command.make_parser(context).parse_args(words)
    except Exception as error:  # click has one for each way to be wrong
        return str(error)
    return f"{rest} are too many" if rest else ""


@cache
def _mesh() -> Any:
    return typer.main.get_command(app)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_runbook_looks_for_in_logs_is_what_the_code_says(page: Path) -> None:
    for words in re.findall(r"^grep .*?'([^']*)' LOG_", page.read_text(), flags=re.MULTILINE):
        for one in words.split("|"):
            assert one in _said() or one in _OF_OTHERS, f"nothing logs {one!r}"


def test_the_index_names_every_runbook() -> None:
    named = re.findall(r"^\| \[(\w+)\]\(\1\.md\)", (RUNBOOKS / "README.md").read_text(), flags=re.MULTILINE)
    assert sorted(named) == sorted({alert.name for alert in alerts()})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_runbook_begins_with_what_to_look_at_and_ends_with_when_it_is_over(page: Path) -> None:
    titles = re.findall(r"^##? (.*)$", page.read_text(), flags=re.MULTILINE)
    if page.stem != "README":
        assert titles[:2] == [page.stem, "Look"]
        assert titles[-1] == "Over"
        assert len(titles) == 4 or titles[2] == "Causes", titles


_OF_OTHERS = {"Traceback", "killed", '"level": *"error"'}
"""Python's own word, the kernel's, and how a log line is written."""


@cache
def _said() -> str:
    return "".join(
        place.read_text()
        for folder in SOURCES
        for place in (ROOT / folder).rglob("*.py")
        if ".venv" not in place.parts
    )
