"""`mesh fleet`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from mesh_cli.commands.fleet.drain import drain_node
from mesh_cli.commands.fleet.show import SHARD_COLUMNS, print_capacity, print_nodes, print_status
from mesh_cli.commands.fleet.watch import watch_fleet
from mesh_cli.commands.output import AsJson, as_dict, show
from mesh_cli.commands.target import EXIT_FAILED, call, fail
from mesh_client import Client
from sessionmesh.admin.v1 import fleet_pb2

app = typer.Typer(
    help="The session-nodes: their state, and taking them in and out of service.\n\n"
    "`mesh fleet` alone is `mesh fleet status`."
)
NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="The node's id, as the status shows it.")]


@app.callback(invoke_without_command=True)
def fleet(context: typer.Context, as_json: AsJson = False) -> None:
    """The session-nodes: their state, and taking them in and out of service.

    `mesh fleet` alone is `mesh fleet status`.
    """
    if context.invoked_subcommand is None:
        status(context, as_json)


@app.command()
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Show every node, the alarms, and how much of the capacity is used."""

    async def work(client: Client) -> fleet_pb2.GetCapacityResponse:
        return await client.fleet.GetCapacity(fleet_pb2.GetCapacityRequest())

    found = call(context, work)
    if as_json:
        print(json.dumps(as_dict(found)))
    else:
        print_status(found)


@app.command()
def watch(context: typer.Context, as_json: AsJson = False) -> None:
    """Follow the fleet until Ctrl-C: a live table on a terminal, else a line for each change.

    With --json each frame of WatchFleet is a line.
    """
    watch_fleet(context, as_json=as_json)


@app.command()
def drain(
    context: typer.Context,
    node: NodeArgument,
    to: Annotated[
        str,
        typer.Option(metavar="NODE", help="Move all its shards to this node, which may be on standby."),
    ] = "",
    wait: Annotated[bool, typer.Option(help="Show the progress until the node owns no shard.")] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Drain even if the other nodes have too little capacity.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Move a node's accounts to other nodes.

    Ctrl-C leaves the drain running; `mesh fleet undrain` cancels it.
    """
    request = fleet_pb2.DrainNodeRequest(node_id=node, replacement_node_id=to, force=force)
    drain_node(context, request, wait=wait, as_json=as_json)


@app.command()
def undrain(context: typer.Context, node: NodeArgument, as_json: AsJson = False) -> None:
    """Let a drained node, or one on standby, own accounts.

    A drain that is still running is cancelled.
    """

    async def work(client: Client) -> fleet_pb2.Node:
        return (await client.fleet.UndrainNode(fleet_pb2.UndrainNodeRequest(node_id=node))).node

    found = call(context, work)
    if as_json:
        print(json.dumps(as_dict(found)))
    else:
        print_nodes([found])


@app.command(name="clear-caches")
def clear_caches(
    context: typer.Context,
    everybody: Annotated[bool, typer.Option("--all", help="What all tenants were answered.")] = False,
    tenant: Annotated[str, typer.Option(metavar="TENANT_ID", help="Only what this tenant was.")] = "",
    as_json: AsJson = False,
) -> None:
    """Forget what networks answered of numbers, people, pictures and businesses: they are asked again."""
    if bool(tenant) == everybody:
        raise typer.BadParameter("say whose: --all or --tenant")

    async def work(client: Client) -> fleet_pb2.ClearCachesResponse:
        return await client.fleet.ClearCaches(fleet_pb2.ClearCachesRequest(tenant_id=tenant))

    found = call(context, work)
    if as_json:
        print(json.dumps(as_dict(found)))
    else:
        print(f"{found.cleared:,} answers are forgotten")


@app.command()
def connect(
    context: typer.Context,
    everybody: Annotated[bool, typer.Option("--all", help="All accounts of the fleet that wait.")] = False,
    tenant: Annotated[str, typer.Option(metavar="TENANT_ID", help="Only accounts of this tenant.")] = "",
    node: Annotated[str, typer.Option(metavar="NODE", help="Only accounts that this node owns.")] = "",
    quarantined: Annotated[bool, typer.Option("--quarantined", help="Only accounts in quarantine.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Connect accounts now that wait after failures or are in quarantine.

    Their failures are forgotten. What is paused, logged out, banned or in conflict stays so.
    """
    if not (everybody or tenant or node):
        raise typer.BadParameter("say which accounts: --all, --tenant or --node")
    request = fleet_pb2.ConnectAccountsRequest(
        tenant_id=tenant, node_id=node, quarantined_only=quarantined, dry_run=dry_run
    )

    async def work(client: Client) -> fleet_pb2.ConnectAccountsResponse:
        return await client.fleet.ConnectAccounts(request)

    found = call(context, work)
    if as_json:
        print(json.dumps(as_dict(found)))
    else:
        would = "would connect" if dry_run else "connect"
        print(f"{found.accounts:,} accounts {would} now, {found.quarantined:,} of them from quarantine")
    if found.silent_node_ids:
        fail(f"these nodes did not answer: {', '.join(found.silent_node_ids)}; try again", EXIT_FAILED)


@app.command()
def where(
    context: typer.Context,
    subject: Annotated[
        str,
        typer.Argument(metavar="ACCOUNT_ID|SHARD", help="An account's id, or a shard's number, 0 to 4095."),
    ],
    as_json: AsJson = False,
) -> None:
    """Show which node owns an account or a shard, and at which epoch."""
    request = fleet_pb2.GetPlacementRequest(account_id=subject)
    if subject.isdecimal():
        request = fleet_pb2.GetPlacementRequest(shard=min(int(subject), 2**31 - 1))

    async def work(client: Client) -> list[fleet_pb2.ShardPlacement]:
        return list((await client.fleet.GetPlacement(request)).shards)

    show(call(context, work), SHARD_COLUMNS, as_json=as_json)


@app.command()
def capacity(context: typer.Context, as_json: AsJson = False) -> None:
    """Show how much of the capacity is used. What more accounts would need: `mesh plan`."""

    async def work(client: Client) -> fleet_pb2.GetCapacityResponse:
        return await client.fleet.GetCapacity(fleet_pb2.GetCapacityRequest())

    found = call(context, work)
    if as_json:
        print(json.dumps(as_dict(found)))
    else:
        print_capacity(found)
