"""Results as a table for people, or as JSON for scripts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.table import Table
from rich.text import Text

from mesh_cli.commands.terminal import wide_console
from sessionmesh.v1 import common_pb2

MAX_PAGE = 1000
"""The largest page that a list call returns."""
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def show(messages: Sequence[Message], columns: Sequence[str], *, as_json: bool) -> None:
    """Print each message as a row of a table, or as a line of JSON; `columns` are field names."""
    if as_json:
        for message in messages:
            print(json.dumps(as_dict(message)))
        return
    print_table(columns, (cells(message, columns) for message in messages))


def cells(message: Message, columns: Sequence[str]) -> list[str]:
    """The row of a message in a table."""
    return [_cell(message, column) for column in columns]


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table without lines."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell.replace("\n", "\\n")) for cell in row))  # not markup: they are strangers'
    wide_console().print(table)


def as_dict(message: Message) -> dict[str, object]:
    """The message with field names as in the protos."""
    found: dict[str, object] = MessageToDict(message, preserving_proto_field_name=True)
    return found


def person(message: common_pb2.Person) -> str:
    """Somebody's address, and the name they show."""
    return f"{message.address} ({message.display_name})" if message.display_name else message.address


def _cell(message: Message, column: str) -> str:
    field = getattr(message, column)
    if isinstance(field, common_pb2.Person):
        return person(field)
    value = as_dict(message).get(column, "")
    if isinstance(value, list):
        return ", ".join(_item(message, column, item) for item in value)
    return _item(message, column, value)


def _item(message: Message, column: str, value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return _without_enum_prefix(message, column, str(value))


def _without_enum_prefix(message: Message, column: str, value: str) -> str:
    field = message.DESCRIPTOR.fields_by_name[column]
    if field.enum_type is None:
        return value
    shared = field.enum_type.values[0].name.removesuffix("UNSPECIFIED")
    return value.removeprefix(shared).lower()
