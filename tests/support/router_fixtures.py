"""One router for all tests of a module, which are marked `asyncio(loop_scope="module")`.

A test takes `world`, and makes tenants, accounts and nodes of its own. Tests that count whole tables, break
the database or stop the router make a router of their own instead.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest_asyncio

from tests.conftest import Databases, LoopThread
from tests.support.router_world import RouterWorld, router_world


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def router(databases: Databases, server_loop: LoopThread, etcd: str) -> AsyncIterator[RouterWorld]:
    """The router of the module, over a database and a cluster of its own."""
    name = server_loop.run(databases.create_migrated())
    async with router_world(databases.url(name), etcd, f"test-{uuid.uuid4().hex[:12]}") as running:
        yield running
    server_loop.run(databases.drop_soon(name))


@pytest_asyncio.fixture(loop_scope="module")
async def world(router: RouterWorld) -> AsyncIterator[RouterWorld]:
    """The router of the module, for one test: without nodes and instances."""
    async with router.scene() as scene:
        yield scene
