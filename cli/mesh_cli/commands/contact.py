"""`mesh contact`."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from mesh_cli.commands.output import AsJson, as_dict, print_table
from mesh_cli.commands.progress import item_bar
from mesh_cli.commands.target import AccountArgument, call
from mesh_client import Client
from sessionmesh.v1 import contact_pb2

app = typer.Typer(help="People that an account knows, or asks about.", no_args_is_help=True)
BATCH = 100
"""Numbers of one call: as many as it takes."""
COLUMNS = ("phone", "registered", "user_id", "hidden_id", "username", "checked")


@app.callback()
def contact() -> None:
    """People that an account knows, or asks about."""


@app.command()
def check(
    context: typer.Context,
    account_id: AccountArgument,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", allow_dash=True, help="Numbers in E.164, one a line; - is standard input."
        ),
    ],
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask which numbers are on the network. Empty lines, and what follows a #, are passed over."""
    numbers = _numbers(file)

    async def work(client: Client) -> list[contact_pb2.NumberCheck]:
        with item_bar("checking") as advance:
            return await _check(client, account_id, numbers, advance)

    checks = call(context, work)
    if as_json:
        for one in checks:
            print(json.dumps(as_dict(one)))
        return
    rows = [_row(one) for one in checks]
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows([_plain(cell) for cell in row] for row in rows)
        return
    print_table(COLUMNS, rows)


async def _check(
    client: Client, account_id: str, numbers: Sequence[str], advance: Callable[[int, int | None], None]
) -> list[contact_pb2.NumberCheck]:
    checks: list[contact_pb2.NumberCheck] = []
    advance(0, len(numbers))
    for batch in _batches(numbers):
        request = contact_pb2.CheckNumbersRequest(account_id=account_id, phones=batch)
        checks += (await client.contacts.CheckNumbers(request)).checks
        advance(len(checks), len(numbers))
    return checks


def _batches(numbers: Iterable[str]) -> Iterator[list[str]]:
    left = iter(numbers)
    while batch := [*islice(left, BATCH)]:
        yield batch


def _numbers(file: Path) -> list[str]:
    """The numbers in a file, without spaces, dashes and brackets within them."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}", param_hint="FILE") from None
    lines = (_BETWEEN.sub("", line.partition("#")[0]) for line in text.splitlines())
    if not (numbers := [line for line in lines if line]):
        raise typer.BadParameter(f"{file} has no numbers", param_hint="FILE")
    return numbers


def _row(check: contact_pb2.NumberCheck) -> list[str]:
    person = check.person
    return [
        check.phone,
        "yes" if check.registered else "no",
        person.user_id,
        person.hidden_id,
        person.username,
        check.check_time.ToJsonString(),
    ]


def _plain(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula; numbers begin with a plus and are none."""
    return f"'{cell}" if cell.startswith(("=", "-", "@", "\t", "\r")) else cell


_BETWEEN = re.compile(r"[\s().-]+")
