"""`mesh events`."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Annotated

import typer

from mesh_cli.commands.output import AsJson, as_dict
from mesh_cli.commands.target import call
from mesh_cli.commands.tenant import TenantOption, tenant_id
from mesh_cli.commands.terminal import say
from mesh_client import Client
from sessionmesh.v1 import event_pb2

app = typer.Typer(help="What happens to a tenant's accounts.", no_args_is_help=True)
MAX_PAYLOAD = 200
"""Characters of an event's payload that a line shows."""


@app.command()
def tail(
    context: typer.Context,
    account: Annotated[
        list[str] | None,
        typer.Option(metavar="ACCOUNT_ID", help="Only events of this account; may be repeated."),
    ] = None,
    event_type: Annotated[
        list[str] | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="A type such as message.received, or a family such as message.*; may be repeated.",
        ),
    ] = None,
    cursor: Annotated[
        str, typer.Option("--from", metavar="CURSOR", help="Begin behind this event instead of now.")
    ] = "",
    subscription: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Follow a named subscription from where it stands, and acknowledge what is shown.",
        ),
    ] = "",
    tenant: TenantOption = "",
    as_json: AsJson = False,
) -> None:
    """Show events as they happen, until Ctrl-C; with --json one a line."""

    async def work(client: Client) -> None:
        followed = client.subscribe(
            cursor=cursor,
            subscription=subscription,
            event_types=event_type or (),
            account_ids=account or (),
            tenant_id=await tenant_id(client, tenant),
        )
        async for batch in followed.batches():
            for event in batch.events:
                if as_json:
                    print(json.dumps(as_dict(event)), flush=True)
                else:
                    say(line(event))
            if subscription:
                await followed.acknowledge()

    with suppress(KeyboardInterrupt):
        call(context, work)


def line(event: event_pb2.Event) -> str:
    """An event on one line: when it was stored, its type, its account, the beginning of its payload."""
    when = event.commit_time.ToDatetime().isoformat(sep=" ", timespec="milliseconds")
    payload = event.WhichOneof("payload")
    told = json.dumps(as_dict(getattr(event, payload)), ensure_ascii=False) if payload else ""
    if len(told) > MAX_PAYLOAD:
        told = told[: MAX_PAYLOAD - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return f"{when}  {event.type}  {event.account_id or '-'}  {told}".rstrip()
