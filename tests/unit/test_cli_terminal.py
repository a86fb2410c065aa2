"""What servers and strangers say is shown by the command line, and does nothing to the terminal."""

from __future__ import annotations

import io
import json

import pytest
from rich.text import Text

from mesh_cli.commands.output import print_table, show
from mesh_cli.commands.target import fail
from mesh_cli.commands.terminal import Terminal, say
from mesh_core.visible_text import visible
from sessionmesh.v1 import account_pb2

DANGEROUS = {
    "colours": "\x1b[31mred",
    "a title": "\x1b]0;title\x07",
    "one-byte escapes": "\x9b31m",
    "a line written over": "good\rbad",
    "a rubout": "a\x08b\x7f",
    "another direction": "\u202egnp.exe",
    "an isolated direction": "\u2066a\u2069",
    "a mark of direction": "a\u200fb",
    "a line of another kind": "a\u2028b",
    "an invisible space": "a\u200bb",
    "half a character": "a\ud800b",
}
UNSAFE = set("".join(DANGEROUS.values())) - set("[]0123456789;abcdefghijklmnopqrstuvwxyz.")


def test_ordinary_text_of_any_language_stays() -> None:
    text = "Zoë 東京 שלום مرحبا 👩\u200d👧 ½\nnext"
    assert visible(text) == text


@pytest.mark.parametrize("kind", DANGEROUS)
def test_nothing_dangerous_is_written(kind: str) -> None:
    output = io.StringIO()
    Terminal(file=output, width=80).print(Text(DANGEROUS[kind]), markup=False)
    assert not UNSAFE & set(output.getvalue())


def test_the_consoles_own_styles_stay() -> None:
    output = io.StringIO()
    Terminal(file=output, force_terminal=True, width=80, color_system="standard").print(
        "[red]x[/]\x1b[2J", highlight=False
    )
    assert output.getvalue().startswith("\x1b[31mx\x1b[0m\\x1b[2J")


@pytest.mark.parametrize("kind", DANGEROUS)
def test_tables_and_lines_write_nothing_dangerous(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name"], [[DANGEROUS[kind]]])
    say(DANGEROUS[kind])
    assert not UNSAFE & set(capsys.readouterr().out)


def test_a_row_of_a_table_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name"], [["one\ntwo"]])
    assert capsys.readouterr().out.split() == ["name", r"one\ntwo"]


@pytest.mark.parametrize("text", ["[red]x", "[/]", "[link=http://x]y", ":smile:"])
def test_what_looks_like_the_consoles_markup_is_shown_as_it_is(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_table(["name"], [[text]])
    assert text in capsys.readouterr().out


@pytest.mark.parametrize("text", [*DANGEROUS.values(), "[/]", "[bold]x"])
def test_an_error_of_a_server_ends_the_command_and_does_nothing_else(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        fail(text, 1)
    assert not UNSAFE & set(capsys.readouterr().err)


def test_json_is_ascii_and_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    name = "".join(text for kind, text in DANGEROUS.items() if kind != "half a character")
    show([account_pb2.Account(display_name=name)], [], as_json=True)
    written = capsys.readouterr().out
    assert written.isascii()
    assert not UNSAFE & set(written.rstrip("\n"))
    assert json.loads(written)["display_name"] == name
