"""Each process of a working mesh is killed in turn, under load. No message or event suffers from it."""

from __future__ import annotations

import pytest

from mesh_cli.demo.receiver import Receiver
from sessionmesh.simulator.v1 import simulator_pb2
from sessionmesh.v1 import account_pb2, event_pb2, message_pb2
from tests.faults.fleet.load import RECOVERY_SECONDS, Load
from tests.support.eventually import eventually
from tests.support.mesh_api import Caller, Tenant
from tests.support.mesh_process import MeshProcess

ACCOUNTS = 6
SETTLE_SECONDS = 60.0
VICTIMS = ("node-1", "webhook", "node-2", "media", "router", "node-3", "simulator")


@pytest.mark.usefixtures("fleet_at_rest")
async def test_nothing_is_lost_doubled_or_forgotten_when_any_process_is_killed(
    mesh: MeshProcess, admin: Caller, tenant: Tenant
) -> None:
    caller = tenant.caller
    async with Receiver() as receiver:
        receiver.secret = await caller.new_endpoint(receiver.url, "message.*")
        limits = account_pb2.SendLimits(per_minute=10_000, per_hour=100_000, per_day=100_000)
        accounts = [await caller.new_account(send_limits=limits) for _ in range(ACCOUNTS)]
        for account in accounts:
            await caller.pair(account, admin)
        load = Load(caller, accounts)
        async with load.running():
            await load.until_more(2)
            for name in VICTIMS:
                await _kill(mesh, name)
                await load.until_more(5)
        await _until_all_delivered(load)
        await _until_all_told(caller, receiver)
        verdict = await admin(admin.simulator.GetVerdict, simulator_pb2.GetVerdictRequest(calls=load.log))
        assert (verdict.lost, verdict.duplicates, verdict.overlaps) == (0, 0, 0), verdict.findings
        assert receiver.received.refused == 0


async def _kill(mesh: MeshProcess, name: str) -> None:
    """SIGKILL, and wait until another process has taken its place."""
    killed = mesh.kill_part(name)

    async def replaced() -> bool:
        return mesh.file.parts[name].pid != killed

    await eventually(replaced, RECOVERY_SECONDS, f"another process for {name}")


async def _until_all_delivered(load: Load) -> None:
    async def delivered() -> bool:
        for account in load.accounts:
            found = await _statuses(load.caller, account.id)
            wanted = load.messages(account.id)
            if any(found.get(one) != message_pb2.MESSAGE_STATUS_DELIVERED for one in wanted):
                return False
        return True

    await eventually(delivered, SETTLE_SECONDS, "DELIVERED for every acknowledged message")


async def _statuses(caller: Caller, account_id: str) -> dict[str, int]:
    request = message_pb2.ListMessagesRequest(account_id=account_id, page_size=1000)
    found: dict[str, int] = {}
    while True:
        page = await caller(caller.messages.ListMessages, request)
        found |= {message.id: message.status for message in page.messages}
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def _until_all_told(caller: Caller, receiver: Receiver) -> None:
    """Every event of the tenant that the endpoint wants has come, by its id."""
    wanted = await _events(caller)
    assert wanted

    async def told() -> bool:
        return wanted <= set(receiver.received.events)

    try:
        await eventually(told, SETTLE_SECONDS, "a webhook for every event")
    except AssertionError:
        missing = wanted.difference(receiver.received.events)
        raise AssertionError(f"{len(missing)} of {len(wanted)} events were never told: {missing}") from None


async def _events(caller: Caller) -> set[str]:
    """Ids of all message events of the tenant, once there are no new ones."""
    request = event_pb2.ListEventsRequest(page_size=1000, event_types=["message.*"])
    found: set[str] = set()
    while True:
        page = await caller(caller.events.ListEvents, request)
        found |= {event.id for event in page.events}
        request.cursor = page.next_cursor
        if not page.more:
            return found
