"""`mesh fleet connect`: accounts that wait after failures connect now."""

from __future__ import annotations

import json

import typer

from mesh_cli.commands.output import as_dict
from mesh_cli.commands.target import EXIT_FAILED, call, fail
from mesh_client import Client
from sessionmesh.admin.v1 import fleet_pb2


def connect_accounts(
    context: typer.Context, request: fleet_pb2.ConnectAccountsRequest, *, as_json: bool
) -> None:
    """Connect them, and say how many there are. The exit code is 1 when a node did not answer."""

    async def work(client: Client) -> fleet_pb2.ConnectAccountsResponse:
        return await client.fleet.ConnectAccounts(request)

    found = call(context, work)
    if as_json:
        print(json.dumps(as_dict(found)))
    else:
        would = "would connect" if request.dry_run else "connect"
        print(f"{found.accounts:,} accounts {would} now, {found.quarantined:,} of them from quarantine")
    if found.silent_node_ids:
        fail(f"these nodes did not answer: {', '.join(found.silent_node_ids)}; try again", EXIT_FAILED)
