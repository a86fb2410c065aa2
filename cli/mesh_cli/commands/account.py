"""`mesh account`."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer

from mesh_cli.commands.output import MAX_PAGE, AsJson, as_dict, cells, print_table, show
from mesh_cli.commands.target import AccountArgument, call
from mesh_cli.commands.tenant import TenantOption, tenant_id
from mesh_client import Client
from sessionmesh.v1 import account_pb2, session_pb2

app = typer.Typer(help="Accounts: what the mesh keeps online.", no_args_is_help=True)
COLUMNS = ("id", "external_id", "display_name", "driver", "phone", "desired_state", "create_time")
RISK = ("unknown_recipient_share", "replies_per_send", "restrictions", "warm_up_day")
SESSION_COLUMNS = (
    "account_id",
    "state",
    "cause",
    "self",
    "node_id",
    "epoch",
    "connect_time",
    "restrictions",
    "risk",
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
def list_accounts(
    context: typer.Context,
    tenant: TenantOption = "",
    risk: Annotated[
        bool, typer.Option("--risk", help="Ask each session, too, how the network may judge its account.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List accounts, and in which state their sessions are."""

    async def work(client: Client) -> tuple[list[account_pb2.Account], dict[str, session_pb2.Session]]:
        of_tenant = await tenant_id(client, tenant)
        accounts, sessions = await asyncio.gather(_accounts(client, of_tenant), _sessions(client, of_tenant))
        found = {session.account_id: session for session in sessions}
        if risk:
            for at in range(0, len(accounts), _AT_ONCE):
                part = [_session(client, account.id) for account in accounts[at : at + _AT_ONCE]]
                found |= {session.account_id: session for session in await asyncio.gather(*part)}
        return accounts, found

    accounts, sessions = call(context, work)
    if as_json:
        for account in accounts:
            session = as_dict(sessions[account.id]) if account.id in sessions else {}
            print(json.dumps(as_dict(account) | {"session": session}))
        return
    columns = (*COLUMNS, "state", *(RISK if risk else ()))
    print_table(columns, (_row(account, sessions.get(account.id), risk=risk) for account in accounts))


async def _accounts(client: Client, tenant: str) -> list[account_pb2.Account]:
    found: list[account_pb2.Account] = []
    request = account_pb2.ListAccountsRequest(tenant_id=tenant, page_size=MAX_PAGE)
    while True:
        page = await client.accounts.ListAccounts(request)
        found += page.accounts
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def _sessions(client: Client, tenant: str) -> list[session_pb2.Session]:
    found: list[session_pb2.Session] = []
    request = session_pb2.ListSessionsRequest(tenant_id=tenant, page_size=MAX_PAGE)
    while True:
        page = await client.sessions.ListSessions(request)
        found += page.sessions
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def _session(client: Client, account_id: str) -> session_pb2.Session:
    request = session_pb2.GetSessionRequest(account_id=account_id)
    return (await client.sessions.GetSession(request)).session


def _row(account: account_pb2.Account, session: session_pb2.Session | None, *, risk: bool) -> list[str]:
    shown = session or session_pb2.Session()
    row = [*cells(account, COLUMNS), *cells(shown, ("state",))]
    return [*row, *cells(shown.risk, RISK)] if risk else row


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

    show([call(context, lambda client: _session(client, account_id))], SESSION_COLUMNS, as_json=as_json)


@app.command()
def delete(context: typer.Context, account_id: AccountArgument, as_json: AsJson = False) -> None:
    """Delete an account. Its data are purged after 30 days."""

    async def work(client: Client) -> account_pb2.Account:
        request = account_pb2.DeleteAccountRequest(account_id=account_id)
        return (await client.accounts.DeleteAccount(request)).account

    show([call(context, work)], COLUMNS, as_json=as_json)


_AT_ONCE = 32
"""Sessions that are asked at the same time."""
