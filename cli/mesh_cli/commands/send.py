"""`mesh send`."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Annotated

import typer

from mesh_cli.commands.output import AsJson, show
from mesh_cli.commands.target import call
from mesh_client import Client
from sessionmesh.v1 import content_pb2, media_pb2, message_pb2

COLUMNS = ("id", "chat", "recipient", "status", "network_message_id", "create_time")


def send(
    context: typer.Context,
    account_id: Annotated[str, typer.Argument(help="The id of the sending account.")],
    to: Annotated[
        str,
        typer.Argument(
            help="The address: a phone number in E.164, or phone:, user:, hidden:, username:, group: or "
            "channel: and what names it."
        ),
    ],
    text: Annotated[str, typer.Argument(help="The text, or the caption of --file.")] = "",
    file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Send this picture, film or document.")
    ] = None,
    wait: Annotated[
        bool,
        typer.Option(
            help="Return when the network has acknowledged the message, instead of when it is stored."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send a message."""

    async def work(client: Client) -> message_pb2.Message:
        content = content_pb2.Content(text=content_pb2.TextContent(body=text))
        if file is not None:
            content = await _file_content(client, account_id, file, text)
        request = message_pb2.SendMessageRequest(
            account_id=account_id,
            recipient=to,
            content=content,
            wait_for=message_pb2.WAIT_FOR_SENT if wait else message_pb2.WAIT_FOR_QUEUED,
        )
        return (await client.messages.SendMessage(request)).message

    show([call(context, work)], COLUMNS, as_json=as_json)


async def _file_content(client: Client, account_id: str, file: Path, caption: str) -> content_pb2.Content:
    account = await client.get_account(account_id)
    mime_type = mimetypes.guess_type(file.name)[0] or ""
    is_gif = mime_type == "image/gif"
    purpose = media_pb2.MEDIA_PURPOSE_DOCUMENT
    if is_gif or mime_type.startswith("video/"):
        purpose = media_pb2.MEDIA_PURPOSE_VIDEO
    elif mime_type.startswith("image/") and mime_type != "image/svg+xml":
        purpose = media_pb2.MEDIA_PURPOSE_IMAGE
    options = media_pb2.StorageOptions(purpose=purpose)
    media = await client.upload(file, tenant_id=account.tenant_id, account_id=account_id, options=options)
    reference = content_pb2.MediaReference(media_id=media.id)
    if purpose == media_pb2.MEDIA_PURPOSE_IMAGE:
        return content_pb2.Content(image=content_pb2.ImageContent(media=reference, caption=caption))
    if purpose == media_pb2.MEDIA_PURPOSE_VIDEO:
        video = content_pb2.VideoContent(media=reference, caption=caption, gif_playback=is_gif)
        return content_pb2.Content(video=video)
    document = content_pb2.DocumentContent(media=reference, file_name=file.name, caption=caption)
    return content_pb2.Content(document=document)
