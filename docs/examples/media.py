"""Store a file and get it back: python media.py photo.jpg copy.jpg"""

import asyncio
import os
import sys

from mesh_client import connect


def show(done: int, total: int) -> None:
    print(f"{done / total:.0%}", file=sys.stderr)


async def main(source: str, copy: str) -> None:
    async with connect(os.environ["MESH_ADDRESS"], os.environ["MESH_API_KEY"]) as client:
        media = await client.upload(source, progress=show)
        print(media.id, media.mime_type, media.size_bytes)
        await client.download_to(media.id, copy, progress=show)


asyncio.run(main(*sys.argv[1:]))
