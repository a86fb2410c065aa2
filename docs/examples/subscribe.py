"""Follow messages, and go on after a restart where it was: python subscribe.py cursor.txt"""

import asyncio
import os
import sys
from pathlib import Path

from mesh_client import CursorExpired, connect


def load(place: Path) -> str:
    return place.read_text() if place.exists() else ""


def store(place: Path, cursor: str) -> None:
    unfinished = place.with_suffix(".new")
    unfinished.write_text(cursor)
    unfinished.replace(place)  # whoever is killed here has the old one or the new one


async def main(place: Path) -> None:
    cursor = load(place)
    async with connect(os.environ["MESH_ADDRESS"], os.environ["MESH_API_KEY"]) as client:
        while True:
            subscription = client.subscribe(cursor=cursor, from_oldest=not cursor, event_types=["message.*"])
            try:
                async for event in subscription:
                    print(event.type, event.account_id, event.id, flush=True)
                    store(place, subscription.cursor)  # the event is done
            except CursorExpired as error:
                print("events were missed: they are kept for some days only", file=sys.stderr)
                cursor = error.oldest_cursor


asyncio.run(main(Path(sys.argv[1])))
