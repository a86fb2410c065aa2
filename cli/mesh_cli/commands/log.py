"""`mesh log`."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from mesh_cli.commands.amounts import read_time
from mesh_cli.commands.output import AsJson, as_dict
from mesh_cli.commands.target import call
from mesh_client import Client
from sessionmesh.admin.v1 import fleet_pb2

app = typer.Typer(help="How much the parts of a mesh log.")


class Level(StrEnum):
    """The least level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@app.callback()
def log() -> None:
    """How much the parts of a mesh log."""


@app.command()
def level(
    context: typer.Context,
    part: Annotated[
        str,
        typer.Argument(
            metavar="NODE|PART", help="A session-node's id, router, session-node, media, webhook, or all."
        ),
    ],
    least: Annotated[Level, typer.Argument(metavar="LEVEL", help="debug, info, warning or error.")],
    logger: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Only loggers of this name and below it, such as mesh_core.etcd or aiohttp."
        ),
    ] = "",
    time: Annotated[
        str, typer.Option("--for", metavar="TIME", help="After that it is as before: 30s, 10m, up to 24h.")
    ] = "10m",
    as_json: AsJson = False,
) -> None:
    """Have parts log more, or less, for a time. They need no restart, and fall back by themselves."""
    request = fleet_pb2.SetLogLevelRequest(
        part_id=part, level=fleet_pb2.LogLevel.Value(f"LOG_LEVEL_{least.name}"), logger=logger
    )
    request.duration.FromTimedelta(read_time(time))

    async def work(client: Client) -> fleet_pb2.SetLogLevelResponse:
        return await client.fleet.SetLogLevel(request)

    found = call(context, work)
    if as_json:
        print(json.dumps(as_dict(found)))
    else:
        end = found.end_time.ToDatetime().isoformat(sep=" ", timespec="seconds")
        print(f"{part} logs from {least} on{f' in {logger}' if logger else ''} until {end} UTC")
