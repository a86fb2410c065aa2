"""`mesh info`."""

from __future__ import annotations

import json
from collections.abc import Iterable

import typer

from mesh_cli.commands.output import AsJson, as_dict, print_table, show
from mesh_cli.commands.target import call
from mesh_client import Client
from sessionmesh.v1 import account_pb2, server_pb2

COLUMNS = ("version", "api_edition", "cluster", "default_driver", "tenant_id")
DRIVER_COLUMNS = ("driver", "pairing_methods", "content_kinds", "client_message_ids", "reply_window")


def info(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the mesh's version and limits, and what its network drivers can do."""

    async def work(client: Client) -> server_pb2.GetServerInfoResponse:
        return await client.server.GetServerInfo(server_pb2.GetServerInfoRequest())

    found = call(context, work)
    if as_json:
        print(json.dumps(as_dict(found)))
        return
    show([found], COLUMNS, as_json=False)
    print()
    show(found.drivers, DRIVER_COLUMNS, as_json=False)
    print()
    if files := _files(found.drivers):
        print_table(("file of", "driver", "bytes", "types"), files)
        print()
    if programs := _programs(found.drivers):
        print_table(("program of", "version", "library", "client", "problem"), programs)
        print()
    print_table(("limit", "value"), _limits(found.limits))


def _limits(limits: server_pb2.Limits) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), str(value)) for name, value in as_dict(limits).items()]


def _programs(drivers: Iterable[server_pb2.DriverCapabilities]) -> list[tuple[str, str, str, str, str]]:
    return [
        (
            _name(driver),
            driver.program.version,
            driver.program.library_version,
            driver.program.client_version,
            driver.program.problem,
        )
        for driver in drivers
        if driver.HasField("program")
    ]


def _name(driver: server_pb2.DriverCapabilities) -> str:
    return account_pb2.Driver.Name(driver.driver).removeprefix("DRIVER_").lower()


def _files(drivers: Iterable[server_pb2.DriverCapabilities]) -> list[tuple[str, str, str, str]]:
    return [
        (
            limit.content_kind,
            _name(driver),
            f"{limit.max_bytes:,}",
            ", ".join(limit.mime_types) or "any",
        )
        for driver in drivers
        for limit in driver.media_limits
    ]
