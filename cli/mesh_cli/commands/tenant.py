"""`mesh tenant`."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh_cli.commands.output import MAX_PAGE, AsJson, show
from mesh_cli.commands.target import call
from mesh_client import Client
from sessionmesh.v1 import job_pb2, tenant_pb2

app = typer.Typer(help="Tenants: the owners of accounts, media and events.", no_args_is_help=True)
TenantOption = Annotated[
    str, typer.Option("--tenant", help="The tenant's id or external id. Default: the tenant of your key.")
]
JOB_COLUMNS = ("id", "kind", "state", "done", "failed", "create_time")
USAGE_COLUMNS = (
    "day",
    "messages_sent",
    "messages_received",
    "media_uploaded_bytes",
    "media_downloaded_bytes",
    "webhook_attempts",
)
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


@app.command()
def delete(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(help="The tenant: its id or external id.")],
    force: Annotated[
        bool, typer.Option("--force", help="Delete its accounts and all that it has, too, as a job.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete a tenant. With --force the job is shown; `mesh job cancel` stops it until it runs."""

    async def work(client: Client) -> tenant_pb2.DeleteTenantResponse:
        request = tenant_pb2.DeleteTenantRequest(tenant_id=await tenant_id(client, tenant), force=force)
        return await client.tenants.DeleteTenant(request)

    answer = call(context, work)
    if answer.HasField("job"):
        show([answer.job], JOB_COLUMNS, as_json=as_json)


@app.command()
def usage(
    context: typer.Context,
    tenant: Annotated[
        str, typer.Argument(help="The tenant: its id or external id. Default: the tenant of your key.")
    ] = "",
    days: Annotated[int, typer.Option(min=1, max=366, help="So many days, in UTC, to today.")] = 30,
    as_json: AsJson = False,
) -> None:
    """Show what a tenant used on each day: messages, bytes of media, webhooks."""
    request = tenant_pb2.GetTenantUsageRequest()
    request.end_time.GetCurrentTime()
    request.start_time.FromSeconds(request.end_time.seconds - (days - 1) * 86_400)

    async def work(client: Client) -> list[tenant_pb2.TenantDayUsage]:
        request.tenant_id = await tenant_id(client, tenant)
        return [*(await client.tenants.GetTenantUsage(request)).days]

    show(call(context, work), USAGE_COLUMNS, as_json=as_json)


@app.command()
def export_person(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="An address of the person, such as phone:+4915112345678.")],
    tenant: TenantOption = "",
) -> None:
    """Print all that a tenant keeps of one person, a line of JSON for each message, receipt and event."""

    async def work(client: Client) -> None:
        request = tenant_pb2.ExportPersonDataRequest(
            address=address, tenant_id=await tenant_id(client, tenant)
        )
        async for record in client.tenants.ExportPersonData(request):
            show([record], (), as_json=True)

    call(context, work)


@app.command()
def erase_person(
    context: typer.Context,
    address: Annotated[str, typer.Argument(help="An address of the person, such as phone:+4915112345678.")],
    tenant: TenantOption = "",
    as_json: AsJson = False,
) -> None:
    """Erase what a tenant keeps of one person, as a job."""

    async def work(client: Client) -> job_pb2.Job:
        request = tenant_pb2.ErasePersonDataRequest(
            address=address, tenant_id=await tenant_id(client, tenant)
        )
        return (await client.tenants.ErasePersonData(request)).job

    show([call(context, work)], JOB_COLUMNS, as_json=as_json)


async def tenant_id(client: Client, name: str) -> str:
    """The id of the tenant with this id or external id; "" for the tenant of the caller's key."""
    if not name or name.startswith("tnt_"):
        return name
    page = await client.tenants.ListTenants(tenant_pb2.ListTenantsRequest(external_id=name))
    if not page.tenants:
        raise typer.BadParameter(f"no tenant has the external id {name!r}")
    return page.tenants[0].id
