"""`mesh key`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from mesh_cli.commands.output import MAX_PAGE, AsJson, as_dict, show
from mesh_cli.commands.target import call
from mesh_cli.commands.tenant import TenantOption, tenant_id
from mesh_cli.commands.terminal import say
from mesh_client import Client
from sessionmesh.v1 import authorization_pb2, tenant_pb2

app = typer.Typer(help="API keys, which callers authenticate with.", no_args_is_help=True)
SCOPES = ("read", "send", "manage", "tenant_admin", "operator")
COLUMNS = ("id", "display_name", "scopes", "account_ids", "create_time", "expire_time", "revoke_time")


@app.command()
def create(
    context: typer.Context,
    scope: Annotated[
        list[str],
        typer.Option(
            help="What the key may do: read, send, manage or tenant_admin; may be repeated. operator, alone "
            "and without --tenant, makes an administrator's key, which may do everything."
        ),
    ],
    tenant: TenantOption = "",
    account: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ACCOUNT_ID",
            help="Limit the key to calls about this account; may be repeated. Default: all of the tenant's.",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="A name to show to people.")] = "",
    as_json: AsJson = False,
) -> None:
    """Create a key and print its secret, which is not shown again."""
    scopes = [_scope(one) for one in scope]

    async def work(client: Client) -> tenant_pb2.CreateApiKeyResponse:
        request = tenant_pb2.CreateApiKeyRequest(
            tenant_id=await tenant_id(client, tenant),
            display_name=name,
            scopes=scopes,
            account_ids=account or (),
        )
        return await client.tenants.CreateApiKey(request)

    made = call(context, work)
    if as_json:
        print(json.dumps(as_dict(made)))
        return
    show([made.api_key], COLUMNS, as_json=False)
    say(f"\nsecret (not shown again): {made.secret}")


def _scope(name: str) -> authorization_pb2.Scope.ValueType:
    if name not in SCOPES:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(SCOPES)}", param_hint="--scope")
    return authorization_pb2.Scope.Value(f"SCOPE_{name.upper()}")


@app.command(name="list")
def list_keys(context: typer.Context, tenant: TenantOption = "", as_json: AsJson = False) -> None:
    """List a tenant's keys; without --tenant, the administrators'."""

    async def work(client: Client) -> list[tenant_pb2.ApiKey]:
        found: list[tenant_pb2.ApiKey] = []
        request = tenant_pb2.ListApiKeysRequest(tenant_id=await tenant_id(client, tenant), page_size=MAX_PAGE)
        while True:
            page = await client.tenants.ListApiKeys(request)
            found += page.api_keys
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    show(call(context, work), COLUMNS, as_json=as_json)


@app.command()
def revoke(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="The key's id, key_...")],
    as_json: AsJson = False,
) -> None:
    """Revoke a key. Within 10 s no process accepts it any more."""

    async def work(client: Client) -> tenant_pb2.ApiKey:
        request = tenant_pb2.RevokeApiKeyRequest(key_id=key_id)
        return (await client.tenants.RevokeApiKey(request)).api_key

    show([call(context, work)], COLUMNS, as_json=as_json)
