"""`mesh audit`."""

from __future__ import annotations

import json
from typing import Annotated

import grpc
import typer

from mesh_cli.commands.output import MAX_PAGE, AsJson, as_dict, print_table
from mesh_cli.commands.target import call
from mesh_cli.commands.tenant import TenantOption, tenant_id
from mesh_client import Client
from sessionmesh.v1 import audit_pb2 as pb

COLUMNS = ("time", "key", "method", "about", "ended", "from")


def audit(
    context: typer.Context,
    account: Annotated[str, typer.Option(metavar="ACCOUNT_ID", help="Only about this account.")] = "",
    key: Annotated[str, typer.Option(metavar="KEY_ID", help="Only made with this key.")] = "",
    about: Annotated[str, typer.Option(metavar="ID", help="Only about this thing, such as whe_....")] = "",
    failed: Annotated[bool, typer.Option("--failed", help="Only calls that failed.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=MAX_PAGE, help="How many, the newest.")] = 50,
    tenant: TenantOption = "",
    as_json: AsJson = False,
) -> None:
    """Show who did what: the calls that changed something, or tried to. Newest last."""

    async def work(client: Client) -> list[pb.AuditEvent]:
        request = pb.ListAuditEventsRequest(
            tenant_id=await tenant_id(client, tenant),
            page_size=limit,
            account_id=account,
            key_id=key,
            resource=about,
            failed_only=failed,
        )
        return list((await client.audit.ListAuditEvents(request)).events)

    events = call(context, work)[::-1]
    if as_json:
        for event in events:
            print(json.dumps(as_dict(event)))
        return
    print_table(COLUMNS, map(_row, events))


def _row(event: pb.AuditEvent) -> tuple[str, ...]:
    key = f"{event.key_id} ({event.key_display_name})" if event.key_display_name else event.key_id
    ended = _CODES.get(event.status.code, str(event.status.code))
    return (
        event.occur_time.ToDatetime().isoformat(sep=" ", timespec="seconds"),
        key or "no valid key",
        event.method.rpartition(".")[2],
        event.resource or event.account_id,
        f"{ended}: {event.status.message}" if event.status.message else ended,
        event.source_address,
    )


_CODES: dict[int, str] = {code.value[0]: code.name for code in grpc.StatusCode}
