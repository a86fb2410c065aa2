"""`mesh account`."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh_cli.commands.output import MAX_PAGE, AsJson, show
from mesh_cli.commands.target import AccountArgument, call
from mesh_cli.commands.tenant import TenantOption, tenant_id
from mesh_client import Client
from sessionmesh.v1 import account_pb2, session_pb2

app = typer.Typer(help="Accounts: what the mesh keeps online.", no_args_is_help=True)
COLUMNS = ("id", "external_id", "display_name", "driver", "phone", "desired_state", "create_time")
SESSION_COLUMNS = (
    "account_id",
    "state",
    "cause",
    "self",
    "node_id",
    "epoch",
    "connect_time",
    "restrictions",
    "detail",
)


@app.command()
def create(
    context: typer.Context,
    external_id: Annotated[
        str, typer.Argument(help="Your own id for the account, unique in its tenant.")
    ] = "",
    phone: Annotated[
        str, typer.Option(help="The number that is expected to pair, in E.164, such as +4915112345678.")
    ] = "",
    name: Annotated[str, typer.Option(help="A name to show to people.")] = "",
    tenant: TenantOption = "",
    as_json: AsJson = False,
) -> None:
    """Create an account; pair it next with `mesh pair`."""
    account = account_pb2.Account(external_id=external_id, phone=phone, display_name=name)

    async def work(client: Client) -> account_pb2.Account:
        request = account_pb2.CreateAccountRequest(tenant_id=await tenant_id(client, tenant), account=account)
        return (await client.accounts.CreateAccount(request)).account

    show([call(context, work)], COLUMNS, as_json=as_json)


@app.command(name="list")
def list_accounts(context: typer.Context, tenant: TenantOption = "", as_json: AsJson = False) -> None:
    """List accounts."""

    async def work(client: Client) -> list[account_pb2.Account]:
        found: list[account_pb2.Account] = []
        request = account_pb2.ListAccountsRequest(
            tenant_id=await tenant_id(client, tenant), page_size=MAX_PAGE
        )
        while True:
            page = await client.accounts.ListAccounts(request)
            found += page.accounts
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    show(call(context, work), COLUMNS, as_json=as_json)


@app.command()
def get(
    context: typer.Context,
    account_id: Annotated[
        str, typer.Argument(metavar="ACCOUNT", help="The account's id, acc_..., or your own id for it.")
    ],
    tenant: TenantOption = "",
    as_json: AsJson = False,
) -> None:
    """Show an account."""

    async def work(client: Client) -> account_pb2.Account:
        request = account_pb2.GetAccountRequest(account_id=account_id)
        if not account_id.startswith("acc_"):
            request = account_pb2.GetAccountRequest(
                external_id=account_id, tenant_id=await tenant_id(client, tenant)
            )
        return (await client.accounts.GetAccount(request)).account

    show([call(context, work)], COLUMNS, as_json=as_json)


@app.command()
def session(context: typer.Context, account_id: AccountArgument, as_json: AsJson = False) -> None:
    """Show an account's session: its state, and the node that runs it."""

    async def work(client: Client) -> session_pb2.Session:
        request = session_pb2.GetSessionRequest(account_id=account_id)
        return (await client.sessions.GetSession(request)).session

    show([call(context, work)], SESSION_COLUMNS, as_json=as_json)


@app.command()
def delete(context: typer.Context, account_id: AccountArgument, as_json: AsJson = False) -> None:
    """Delete an account. Its data are purged after 30 days."""

    async def work(client: Client) -> account_pb2.Account:
        request = account_pb2.DeleteAccountRequest(account_id=account_id)
        return (await client.accounts.DeleteAccount(request)).account

    show([call(context, work)], COLUMNS, as_json=as_json)
