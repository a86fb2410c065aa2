"""How much an account may do beside sending."""

from __future__ import annotations

from typing import cast
from unittest.mock import MagicMock

import pytest

from mesh_core.errors import FailedPrecondition, ResourceExhausted
from mesh_session_node.calls.account_call import AccountCalls
from mesh_session_node.context.context import SessionSettings
from mesh_session_node.drivers.interface.capabilities import Acting, Capability
from mesh_session_node.outbound.limits import ActLimits
from tests.support.memory_host import OneAccount


def test_acts_of_the_last_minute_and_hour_count() -> None:
    limits = ActLimits(per_minute=3, per_hour=5)
    for _ in range(3):
        limits.take(1000.0)
    with pytest.raises(ResourceExhausted) as refused:
        limits.take(1001.0)
    assert (refused.value.reason, refused.value.quota) == ("RATE_LIMITED", "acts_per_minute")
    assert 55.0 <= (refused.value.retry_after or 0) <= 66.0
    for _ in range(2):
        limits.take(1070.0)
    with pytest.raises(ResourceExhausted) as refused:
        limits.take(1140.0)
    assert refused.value.quota == "acts_per_hour"
    assert (refused.value.retry_after or 0) > 3000.0
    limits.take(1000.0 + 3600.0 + 301.0)


async def test_a_call_beyond_the_limit_is_refused_and_asks_nothing_of_the_network(
    account: OneAccount,
) -> None:
    account.host.settings = SessionSettings(acts_per_minute=2)
    await account.connected()
    calls, asked = AccountCalls(MagicMock(), MagicMock()), []

    async def act(_link: Acting) -> None:
        asked.append(1)

    for _ in range(2):
        await calls.act(account.session, Capability.BLOCK, act)
    with pytest.raises(ResourceExhausted) as refused:
        await calls.act(account.session, Capability.BLOCK, act)
    assert refused.value.retry_after
    assert len(asked) == 2


async def test_what_could_not_be_done_anyway_does_not_count(account: OneAccount) -> None:
    account.host.settings = SessionSettings(acts_per_minute=1)
    calls = AccountCalls(MagicMock(), MagicMock())

    async def act(link: Acting) -> object:
        return await link.list_blocked()

    for _ in range(3):
        with pytest.raises(FailedPrecondition):
            await calls.act(account.session, Capability.BLOCK, act)
    await account.connected()
    assert await calls.act(account.session, Capability.BLOCK, act) == cast(object, [])
