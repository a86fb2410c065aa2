"""`mesh message`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from mesh_cli.commands.output import MAX_PAGE, AsJson, as_dict, person, print_table, show
from mesh_cli.commands.target import AccountArgument, call
from mesh_cli.commands.terminal import say
from mesh_client import Client
from sessionmesh.v1 import content_pb2
from sessionmesh.v1 import message_pb2 as pb
from sessionmesh.v1.common_pb2 import MessageRef

app = typer.Typer(help="Messages that were sent and received, and changing them.", no_args_is_help=True)
COLUMNS = ("time", "id", "from", "chat", "status", "content")
RESULT = ("id", "chat", "status", "update_time")
RECEIPTS = ("member", "status", "status_time")
MAX_CONTENT = 60
"""Characters of a message's content in a list."""
MessageArgument = Annotated[str, typer.Argument(metavar="MESSAGE_ID", help="The message's id, msg_...")]


@app.command()
def ls(
    context: typer.Context,
    account_id: AccountArgument,
    chat: Annotated[str, typer.Option(metavar="ADDRESS", help="Only of this chat.")] = "",
    received: Annotated[bool, typer.Option("--received", help="Only those that came.")] = False,
    sent: Annotated[bool, typer.Option("--sent", help="Only those that the account wrote.")] = False,
    status: Annotated[
        list[str] | None, typer.Option(help="Only in this status, such as failed; may be repeated.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_PAGE, help="How many, the newest.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List an account's messages, newest last."""
    request = pb.ListMessagesRequest(
        account_id=account_id, chat=chat, page_size=limit, statuses=map(_status, status or ())
    )
    if received != sent:
        request.direction = pb.DIRECTION_INBOUND if received else pb.DIRECTION_OUTBOUND

    async def work(client: Client) -> list[pb.Message]:
        return list((await client.messages.ListMessages(request)).messages)

    messages = call(context, work)[::-1]
    if as_json:
        show(messages, (), as_json=True)
    else:
        print_table(COLUMNS, map(_row, messages))


@app.command(name="show")
def show_message(
    context: typer.Context, account_id: AccountArgument, message_id: MessageArgument, as_json: AsJson = False
) -> None:
    """Show a message with all that is known of it, and in groups who has it."""

    async def work(client: Client) -> tuple[pb.Message, list[pb.Receipt]]:
        reference = MessageRef(message_id=message_id)
        asked = pb.GetMessageRequest(account_id=account_id, message=reference)
        message = (await client.messages.GetMessage(asked)).message
        if not message.chat.startswith("group:") or message.direction != pb.DIRECTION_OUTBOUND:
            return message, []
        whose = pb.ListReceiptsRequest(account_id=account_id, message=reference, page_size=MAX_PAGE)
        return message, list((await client.messages.ListReceipts(whose)).receipts)

    message, receipts = call(context, work)
    if as_json:
        show([message, *receipts], (), as_json=True)
        return
    say(json.dumps(as_dict(message), indent=2, ensure_ascii=False))
    if receipts:
        show(receipts, RECEIPTS, as_json=False)


@app.command()
def edit(
    context: typer.Context,
    account_id: AccountArgument,
    message_id: MessageArgument,
    text: Annotated[str, typer.Argument(help="What it says from now on.")],
    as_json: AsJson = False,
) -> None:
    """Have a text that the account sent say something else."""
    content = content_pb2.Content(text=content_pb2.TextContent(body=text))

    async def work(client: Client) -> pb.Message:
        request = pb.EditMessageRequest(
            account_id=account_id, message=MessageRef(message_id=message_id), content=content
        )
        return (await client.messages.EditMessage(request)).message

    show([call(context, work)], RESULT, as_json=as_json)


@app.command()
def revoke(
    context: typer.Context, account_id: AccountArgument, message_id: MessageArgument, as_json: AsJson = False
) -> None:
    """Take a message back for everybody: the account's own, or as an administrator of its group anybody's."""

    async def work(client: Client) -> pb.Message:
        request = pb.RevokeMessageRequest(account_id=account_id, message=MessageRef(message_id=message_id))
        return (await client.messages.RevokeMessage(request)).message

    show([call(context, work)], RESULT, as_json=as_json)


@app.command()
def react(
    context: typer.Context,
    account_id: AccountArgument,
    message_id: MessageArgument,
    emoji: Annotated[str, typer.Argument(help="The emoji; none takes the reaction back.")] = "",
    as_json: AsJson = False,
) -> None:
    """React to a message."""

    async def work(client: Client) -> pb.Message:
        request = pb.ReactToMessageRequest(
            account_id=account_id, message=MessageRef(message_id=message_id), emoji=emoji
        )
        return (await client.messages.ReactToMessage(request)).message

    show([call(context, work)], RESULT, as_json=as_json)


@app.command()
def cancel(
    context: typer.Context, account_id: AccountArgument, message_id: MessageArgument, as_json: AsJson = False
) -> None:
    """Cancel a message that waits to be sent."""

    async def work(client: Client) -> pb.Message:
        request = pb.CancelMessageRequest(account_id=account_id, message_id=message_id)
        return (await client.messages.CancelMessage(request)).message

    show([call(context, work)], RESULT, as_json=as_json)


def _status(given: str) -> pb.MessageStatus.ValueType:
    """The status of a name such as `failed` or `in-doubt`."""
    name = f"MESSAGE_STATUS_{given.upper().replace('-', '_')}"
    known = {key: value for key, value in pb.MessageStatus.items() if value}
    if name not in known:
        names = ", ".join(key.removeprefix("MESSAGE_STATUS_").lower().replace("_", "-") for key in known)
        raise typer.BadParameter(f"{given!r} is none of {names}", param_hint="--status")
    return known[name]


def _row(message: pb.Message) -> tuple[str, ...]:
    own = message.direction == pb.DIRECTION_OUTBOUND
    status = pb.MessageStatus.Name(message.status).removeprefix("MESSAGE_STATUS_").lower()
    failure = pb.FailureReason.Name(message.failure).removeprefix("FAILURE_REASON_").lower()
    return (
        message.create_time.ToDatetime().isoformat(sep=" ", timespec="seconds"),
        message.id,
        "me" if own else person(message.sender),
        message.chat,
        f"{status}: {failure}" if message.failure else status,
        _said(message.content),
    )


def _said(content: content_pb2.Content) -> str:
    """The beginning of a text, and of other content its kind with its caption."""
    kind = content.WhichOneof("kind")
    if kind is None:
        return "-"
    inside = getattr(content, kind)
    words = inside.body if kind == "text" else f"[{kind}] {getattr(inside, 'caption', '')}".rstrip()
    return words if len(words) <= MAX_CONTENT else words[: MAX_CONTENT - 1] + "\N{HORIZONTAL ELLIPSIS}"
