"""Send one text to many numbers: python bulk.py acc_... +4915112345678 +4915187654321 ..."""

import asyncio
import os
import sys

from mesh_client import connect
from sessionmesh.v1 import content_pb2, message_pb2


def text(account_id: str, to: str) -> message_pb2.SendMessageRequest:
    return message_pb2.SendMessageRequest(
        account_id=account_id,
        request_id=f"campaign-7-{to}",
        recipient=to,
        content=content_pb2.Content(text=content_pb2.TextContent(body="Our shop is open again")),
    )


async def main(account_id: str, *numbers: str) -> None:
    mesh = connect(os.environ["MESH_ADDRESS"], os.environ["MESH_API_KEY"])
    async with mesh as client, client.bulk() as bulk:
        async for result in bulk.results(text(account_id, number) for number in numbers):
            outcome = result.message.id if result.message else result.error
            print(result.request.recipient, outcome)


asyncio.run(main(*sys.argv[1:]))
