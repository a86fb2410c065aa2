"""The mesh that fault tests share, where they need nothing special of it: starting one takes some 10 s."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.faults.fleet.scene import Scene, scene


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def shared_scene() -> AsyncIterator[Scene]:
    """Three nodes on a lone etcd. Each test leaves it whole: `Scene.under_load` sees to that."""
    async with scene() as opened:
        yield opened
