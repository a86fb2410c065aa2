"""An operator lets accounts connect that wait after failures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest

from mesh_core.ids import Prefix, encode, new_uuid
from mesh_session_node.account.session import Session
from mesh_session_node.account.state import SessionEvent
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End
from mesh_session_node.node.reconnecting import connect_waiting
from sessionmesh.internal.v1 import node_pb2
from sessionmesh.v1 import session_pb2 as pb
from tests.support.memory_host import OneAccount, account_row
from tests.support.memory_journal import Clock

AWAY = ConnectionEnded(End.LOST, "connection refused")


@pytest.fixture
async def accounts() -> AsyncIterator[dict[str, OneAccount]]:
    """One for each way to be offline, and one that is connected."""
    made = {
        name: OneAccount(replace(account_row(new_uuid()), tenant=new_uuid()))
        for name in ("waiting", "quarantined", "paused", "conflict", "connected")
    }
    for account in made.values():
        await account.connected()
    made["paused"].session.disconnect()
    made["conflict"].driver.link.end(End.REPLACED)
    for name in ("waiting", "quarantined"):
        made[name].driver.refusal = AWAY
        made[name].driver.link.end()
    yield made
    for account in made.values():
        await account.host.close()


@pytest.fixture
async def sessions(accounts: dict[str, OneAccount], clock: Clock) -> Mapping[str, Session]:
    bad = accounts["quarantined"]
    while bad.shown.cause != pb.SESSION_CAUSE_QUARANTINED:
        await clock.skip(300)
        await bad.dial()
    waiting = accounts["waiting"]  # however often it tried meanwhile
    waiting.session.connector.failures.clear()
    waiting.session.go(SessionEvent.RETRY_DUE)
    await waiting.dial()
    assert waiting.shown.state == pb.SESSION_STATE_BACKOFF
    return {account.session.id: account.session for account in accounts.values()}


async def connected(accounts: dict[str, OneAccount]) -> set[str]:
    for account in accounts.values():
        account.driver.refusal = None
        await account.dial()
    return {name for name, one in accounts.items() if one.shown.state == pb.SESSION_STATE_CONNECTED}


async def test_those_that_wait_connect_and_those_that_rest_do_not(
    accounts: dict[str, OneAccount], sessions: Mapping[str, Session]
) -> None:
    answer = await connect_waiting(sessions, node_pb2.ConnectAccountsRequest())
    assert (answer.accounts, answer.quarantined) == (2, 1)
    assert await connected(accounts) == {"waiting", "quarantined", "connected"}
    assert accounts["quarantined"].shown.recent_failures == 0


async def test_they_are_among_the_first_to_dial(
    accounts: dict[str, OneAccount], sessions: Mapping[str, Session]
) -> None:
    await connect_waiting(sessions, node_pb2.ConnectAccountsRequest())
    assert accounts["quarantined"].host.asked == [accounts["quarantined"].session.connector]


async def test_only_those_in_quarantine_connect(
    accounts: dict[str, OneAccount], sessions: Mapping[str, Session]
) -> None:
    answer = await connect_waiting(sessions, node_pb2.ConnectAccountsRequest(quarantined_only=True))
    assert (answer.accounts, answer.quarantined) == (1, 1)
    assert await connected(accounts) == {"quarantined", "connected"}


async def test_only_one_tenants_connect(
    accounts: dict[str, OneAccount], sessions: Mapping[str, Session]
) -> None:
    tenant = encode(Prefix.TENANT, accounts["waiting"].account.tenant)
    answer = await connect_waiting(sessions, node_pb2.ConnectAccountsRequest(tenant_id=tenant))
    assert (answer.accounts, answer.quarantined) == (1, 0)
    assert await connected(accounts) == {"waiting", "connected"}


async def test_a_dry_run_only_counts(
    accounts: dict[str, OneAccount], sessions: Mapping[str, Session]
) -> None:
    answer = await connect_waiting(sessions, node_pb2.ConnectAccountsRequest(dry_run=True))
    assert (answer.accounts, answer.quarantined) == (2, 1)
    assert await connected(accounts) == {"connected"}


async def test_one_that_cannot_connect_does_not_keep_the_others_from_it(
    accounts: dict[str, OneAccount], sessions: Mapping[str, Session]
) -> None:
    accounts["waiting"].session.context.driver_state = None
    answer = await connect_waiting(sessions, node_pb2.ConnectAccountsRequest())
    assert (answer.accounts, answer.quarantined) == (1, 1)
