"""A network and a session-node for the tests of a module that is marked `asyncio(loop_scope="module")`.

A test takes `stage` and `node`, and makes accounts of its own. A module whose tests need another node, or
kill theirs, has a `node` or a `stage` of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.session_node_stage import NodeProcess, Stage, open_stage


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stage(
    module_postgres_url: str, etcd: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    """A network, and a tenant on a database of the module's."""
    async with open_stage(module_postgres_url, etcd, tmp_path_factory.mktemp("nodes")) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(stage: Stage) -> NodeProcess:
    """A session-node as it is by default."""
    return await stage.start_node()
