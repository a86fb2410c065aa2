"""A router or a session-node for the tests of a module that is marked `asyncio(loop_scope="module")`.

A test takes `world`, and makes tenants, accounts and nodes of its own; or `stage` and `node`, and makes
accounts. Tests that count whole tables, break the database, or stop what is shared make their own instead.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.router_world import RouterWorld, router_world
from tests.support.session_node_stage import NodeProcess, Stage, open_stage


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def router(module_postgres_url: str, etcd: str) -> AsyncIterator[RouterWorld]:
    """The router of the module, over a database and a cluster of its own."""
    async with router_world(module_postgres_url, etcd, f"test-{uuid.uuid4().hex[:12]}") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def world(router: RouterWorld) -> AsyncIterator[RouterWorld]:
    """The router of the module, for one test: without nodes and instances."""
    async with router.scene() as scene:
        yield scene


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage(
    module_postgres_url: str, etcd: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    """The simulated network, and a tenant in a database of the module's."""
    async with open_stage(module_postgres_url, etcd, tmp_path_factory.mktemp("nodes")) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(stage: Stage) -> NodeProcess:
    """A session-node as it is by default."""
    return await stage.start_node()
