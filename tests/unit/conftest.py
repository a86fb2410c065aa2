"""What unit tests share."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator

import pytest
import structlog

from mesh_core import ids
from tests.support.memory_host import OneAccount
from tests.support.memory_journal import Clock


@pytest.fixture(autouse=True)
def ids_of_this_clock() -> Iterator[None]:
    """A process's ids never fall behind a clock that was ahead, also not behind one that a test has set."""
    before = ids._latest
    yield
    ids._latest = before


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
async def account() -> AsyncIterator[OneAccount]:
    """An account that is neither paired nor connected."""
    account = OneAccount()
    yield account
    await account.host.close()


@pytest.fixture
def logging_put_back() -> Iterator[None]:
    """What `logs.configure` changes is the process's."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    before = structlog.get_config()
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**before)
