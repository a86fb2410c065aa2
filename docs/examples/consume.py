"""Handle each event, and share the work: run as many as you like of: python consume.py"""

import asyncio
import os
from contextlib import suppress

from mesh_client import AlreadyExists, connect
from sessionmesh.v1 import event_pb2


async def main() -> None:
    async with connect(os.environ["MESH_ADDRESS"], os.environ["MESH_API_KEY"]) as client:
        request = event_pb2.CreateSubscriptionRequest(subscription=event_pb2.Subscription(name="orders"))
        with suppress(AlreadyExists):
            await client.events.CreateSubscription(request)
        subscription = client.subscribe(subscription="orders")
        async for event in subscription:
            print(event.type, event.account_id, event.id, flush=True)
            await subscription.acknowledge()  # every event so far is done


asyncio.run(main())
