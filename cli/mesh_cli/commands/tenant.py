"""`mesh tenant`."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh_cli.commands.output import MAX_PAGE, AsJson, show
from mesh_cli.commands.target import call
from mesh_client import Client
from sessionmesh.v1 import tenant_pb2

app = typer.Typer(help="Tenants: the owners of accounts, media and events.", no_args_is_help=True)
COLUMNS = ("id", "external_id", "display_name", "state", "create_time")


@app.command()
def create(
    context: typer.Context,
    external_id: Annotated[str, typer.Argument(help="Your own id for the tenant, unique.")],
    display_name: Annotated[str, typer.Option("--name", help="A name to show to people.")] = "",
    as_json: AsJson = False,
) -> None:
    """Create a tenant."""
    tenant = tenant_pb2.Tenant(external_id=external_id, display_name=display_name)

    async def work(client: Client) -> tenant_pb2.Tenant:
        request = tenant_pb2.CreateTenantRequest(tenant=tenant)
        return (await client.tenants.CreateTenant(request)).tenant

    show([call(context, work)], COLUMNS, as_json=as_json)


@app.command(name="list")
def list_tenants(context: typer.Context, as_json: AsJson = False) -> None:
    """List all tenants."""

    async def work(client: Client) -> list[tenant_pb2.Tenant]:
        found: list[tenant_pb2.Tenant] = []
        request = tenant_pb2.ListTenantsRequest(page_size=MAX_PAGE)
        while True:
            page = await client.tenants.ListTenants(request)
            found += page.tenants
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    show(call(context, work), COLUMNS, as_json=as_json)


async def tenant_id(client: Client, name: str) -> str:
    """The id of the tenant with this id or external id; "" for the tenant of the caller's key."""
    if not name or name.startswith("tnt_"):
        return name
    page = await client.tenants.ListTenants(tenant_pb2.ListTenantsRequest(external_id=name))
    if not page.tenants:
        raise typer.BadParameter(f"no tenant has the external id {name!r}")
    return page.tenants[0].id
