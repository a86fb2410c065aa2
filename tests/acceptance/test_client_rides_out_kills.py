"""The Python client at work while the processes that serve it are killed: its callers notice nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress

import pytest

from mesh_client import Client, connect
from mesh_client.retries import Unreachable
from sessionmesh.v1 import account_pb2, message_pb2
from tests.support.eventually import eventually
from tests.support.mesh_api import Caller, Tenant, text_message
from tests.support.mesh_process import MeshProcess

ACCOUNTS = 4
MESSAGES = 3000
SECONDS = 90.0
VICTIMS = ("router", "node-1", "webhook", "router")


@pytest.mark.usefixtures("fleet_at_rest")
@pytest.mark.read_back("SendMessages")
async def test_bulk_sender_subscription_and_calls_ride_out_kills(
    mesh: MeshProcess, admin: Caller, tenant: Tenant
) -> None:
    limits = account_pb2.SendLimits(per_minute=10_000, per_hour=100_000, per_day=100_000)
    accounts = [await tenant.caller.new_account(send_limits=limits) for _ in range(ACCOUNTS)]
    for account in accounts:
        await tenant.caller.pair(account, admin)
    key = dict(tenant.caller.metadata)["authorization"].removeprefix("Bearer ")
    told: Counter[str] = Counter()
    results: list[message_pb2.Message] = []
    async with asyncio.timeout(SECONDS), connect(mesh.address, key) as client:
        await client.settle()
        assert client.transport == "xds"
        background = [
            asyncio.create_task(follow(client, told)),
            asyncio.create_task(look(client, accounts)),
        ]
        async with client.bulk(max_in_flight=100, timeout=SECONDS) as bulk:
            killing = asyncio.create_task(kill_each(mesh, results))
            requests = (text_message(accounts[number % ACCOUNTS].id) for number in range(MESSAGES))
            async for result in bulk.results(requests):
                assert result.error is None
                assert result.message is not None
                results.append(result.message)
            await killing
        sent = {message.id for message in results}
        assert len(sent) == MESSAGES
        for account in accounts:
            stored = await message_ids(client, account.id)
            assert stored == {message.id for message in results if message.account_id == account.id}
        await eventually(lambda: sent <= told.keys(), SECONDS, "an event for each message")
        for task in background:
            assert not task.done(), task.exception()
            task.cancel()
    assert told == Counter(sent)


async def follow(client: Client, told: Counter[str]) -> None:
    """Count what is told of each message that was accepted."""
    async for event in client.subscribe(from_oldest=True, event_types=["message.queued"]):
        told[event.message_status.message_id] += 1


async def look(client: Client, accounts: list[account_pb2.Account]) -> None:
    """Call again and again; every call must succeed, unless there is no router for longer than calls wait."""
    while True:
        for account in accounts:
            with suppress(Unreachable):
                assert (await client.get_account(account.id)).id == account.id
                request = message_pb2.ListMessagesRequest(account_id=account.id, page_size=1)
                await client.messages.ListMessages(request)


async def kill_each(mesh: MeshProcess, results: list[message_pb2.Message]) -> None:
    """SIGKILL each victim once some more results have come, and wait for its successor."""
    for number, name in enumerate(VICTIMS):
        await until_more(results, MESSAGES * number // (2 * len(VICTIMS)))
        await until_replaced(mesh, name, mesh.kill_part(name))


async def until_more(results: list[message_pb2.Message], than: int) -> None:
    await eventually(lambda: len(results) > than, SECONDS, "more results")


async def until_replaced(mesh: MeshProcess, name: str, killed: int) -> None:
    await eventually(lambda: mesh.file.parts[name].pid != killed, SECONDS, f"another {name}")


async def message_ids(client: Client, account_id: str) -> set[str]:
    request = message_pb2.ListMessagesRequest(account_id=account_id, page_size=1000)
    found: list[str] = []
    while True:
        page = await client.messages.ListMessages(request)
        found += [message.id for message in page.messages]
        if not page.next_page_token:
            assert len(set(found)) == len(found)
            return set(found)
        request.page_token = page.next_page_token
