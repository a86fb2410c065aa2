"""Send a text and wait until the network has it: python send.py acc_... +4915112345678"""

import asyncio
import os
import sys

from mesh_client import connect
from sessionmesh.v1 import message_pb2


async def main(account_id: str, to: str) -> None:
    async with connect(os.environ["MESH_ADDRESS"], os.environ["MESH_API_KEY"]) as client:
        message = await client.send_text(account_id, to, "Hello", wait_for=message_pb2.WAIT_FOR_SENT)
        print(message.id, message_pb2.MessageStatus.Name(message.status))


asyncio.run(main(*sys.argv[1:]))
