"""What unit tests of sessions share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.memory_host import OneAccount
from tests.support.memory_journal import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
async def account() -> AsyncIterator[OneAccount]:
    """An account that is neither paired nor connected."""
    account = OneAccount()
    yield account
    await account.host.close()
