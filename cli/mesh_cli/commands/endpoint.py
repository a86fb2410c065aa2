"""`mesh endpoint`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from mesh_cli.commands.output import MAX_PAGE, AsJson, as_dict, show
from mesh_cli.commands.target import call
from mesh_cli.commands.tenant import TenantOption, tenant_id
from mesh_cli.commands.terminal import say
from mesh_client import Client
from sessionmesh.v1 import webhook_pb2

app = typer.Typer(help="Webhook endpoints: where events are delivered.", no_args_is_help=True)
COLUMNS = ("id", "url", "display_name", "event_types", "account_ids", "header_names", "state", "create_time")
ATTEMPT_COLUMNS = ("id", "http_status", "duration", "error")
EndpointArgument = Annotated[str, typer.Argument(metavar="ENDPOINT_ID", help="The endpoint's id, whe_...")]


@app.command()
def create(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="Where events are delivered: https://...")],
    event_type: Annotated[
        list[str] | None,
        typer.Option(
            help="A type such as message.received, or a family such as message.*; may be repeated. "
            "Default: all."
        ),
    ] = None,
    account: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ACCOUNT_ID", help="Only events of this account; may be repeated. Default: all accounts."
        ),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A header of every delivery; may be repeated. Its value is never shown again.",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="A name to show to people.")] = "",
    tenant: TenantOption = "",
    as_json: AsJson = False,
) -> None:
    """Create an endpoint and print the secret that its deliveries are signed with."""
    endpoint = webhook_pb2.Endpoint(
        url=url,
        display_name=name,
        event_types=event_type or (),
        account_ids=account or (),
        headers=dict(_header(one) for one in header or ()),
    )

    async def work(client: Client) -> webhook_pb2.CreateEndpointResponse:
        request = webhook_pb2.CreateEndpointRequest(
            tenant_id=await tenant_id(client, tenant), endpoint=endpoint
        )
        return await client.webhooks.CreateEndpoint(request)

    made = call(context, work)
    if as_json:
        print(json.dumps(as_dict(made)))
        return
    show([made.endpoint], COLUMNS, as_json=False)
    say(f"\nsecret (not shown again): {made.secret}")


@app.command(name="list")
def list_endpoints(context: typer.Context, tenant: TenantOption = "", as_json: AsJson = False) -> None:
    """List a tenant's endpoints."""

    async def work(client: Client) -> list[webhook_pb2.Endpoint]:
        found: list[webhook_pb2.Endpoint] = []
        request = webhook_pb2.ListEndpointsRequest(
            tenant_id=await tenant_id(client, tenant), page_size=MAX_PAGE
        )
        while True:
            page = await client.webhooks.ListEndpoints(request)
            found += page.endpoints
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    show(call(context, work), COLUMNS, as_json=as_json)


@app.command(name="test")
def send_test(
    context: typer.Context,
    endpoint_id: EndpointArgument,
    event_type: Annotated[str, typer.Option(help="The type of the event. Default: webhook.test.")] = "",
    as_json: AsJson = False,
) -> None:
    """Deliver a sample event at once, and show what came of it."""

    async def work(client: Client) -> webhook_pb2.Attempt:
        request = webhook_pb2.TestEndpointRequest(endpoint_id=endpoint_id, event_type=event_type)
        return (await client.webhooks.TestEndpoint(request)).attempt

    show([call(context, work)], ATTEMPT_COLUMNS, as_json=as_json)


@app.command()
def delete(context: typer.Context, endpoint_id: EndpointArgument) -> None:
    """Delete an endpoint and its pending deliveries."""

    async def work(client: Client) -> None:
        await client.webhooks.DeleteEndpoint(webhook_pb2.DeleteEndpointRequest(endpoint_id=endpoint_id))

    call(context, work)
    say(f"{endpoint_id} is deleted")


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--header")
    return name, value
