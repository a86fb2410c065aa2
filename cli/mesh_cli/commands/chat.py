"""`mesh chat`."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh_cli.commands.output import MAX_PAGE, AsJson, print_table, show
from mesh_cli.commands.target import AccountArgument, call
from mesh_client import Client
from sessionmesh.v1 import chat_pb2 as pb

app = typer.Typer(help="The chats of an account.", no_args_is_help=True)
ChatArgument = Annotated[str, typer.Argument(metavar="CHAT", help="The chat's address.")]
COLUMNS = ("address", "name", "unread", "last message", "is")


@app.command()
def ls(
    context: typer.Context,
    account_id: AccountArgument,
    unread: Annotated[bool, typer.Option("--unread", help="Only with something unread.")] = False,
    archived: Annotated[bool, typer.Option("--archived", help="Also those that are archived.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=MAX_PAGE, help="How many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List an account's chats, the one with the newest message first."""

    async def work(client: Client) -> list[pb.Chat]:
        request = pb.ListChatsRequest(
            account_id=account_id, unread_only=unread, show_archived=archived, page_size=limit
        )
        return list((await client.chats.ListChats(request)).chats)

    chats = call(context, work)
    if as_json:
        show(chats, (), as_json=True)
    else:
        print_table(COLUMNS, map(_row, chats))


@app.command()
def read(context: typer.Context, account_id: AccountArgument, chat: ChatArgument) -> None:
    """Mark everything in a chat as read."""

    async def work(client: Client) -> None:
        await client.chats.MarkChatRead(pb.MarkChatReadRequest(account_id=account_id, address=chat))

    call(context, work)


def _row(chat: pb.Chat) -> tuple[str, ...]:
    last = chat.last_message
    marks = [name for name in ("archived", "pinned", "marked_unread") if getattr(chat, name)]
    return (
        chat.address,
        chat.name or chat.person.display_name,
        str(chat.unread_count or ""),
        last.create_time.ToDatetime().isoformat(sep=" ", timespec="seconds") if last.id else "",
        ", ".join(mark.replace("_", " ") for mark in marks),
    )
