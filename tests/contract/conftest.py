"""What the cases of the contract share: a network that has what a case needs, and an account of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import cast

import pytest
import pytest_asyncio

from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.driver import Link
from mesh_session_node.drivers.interface.state import DriverState
from tests.support.driver_contract import Connect
from tests.support.driver_worlds import WORLDS, DriverWorld, World, WorldKind
from tests.support.link_events import RecordedEvents
from tests.support.recorded_rows import RecordedRows


@pytest_asyncio.fixture(params=WORLDS, loop_scope="module", scope="module")
async def started(request: pytest.FixtureRequest) -> AsyncIterator[tuple[WorldKind, World]]:
    """A network that all cases of a module share."""
    kind = WORLDS[request.param]
    async with kind.started() as world:
        yield kind, world


@pytest_asyncio.fixture(loop_scope="module")
async def world(
    request: pytest.FixtureRequest, started: tuple[WorldKind, World]
) -> AsyncIterator[DriverWorld]:
    """A network that has what the case needs, with a new account; else the case is skipped."""
    kind, opened = started
    capabilities = cast("Collection[Capability]", kind.driver.capabilities)
    for marker in request.node.iter_markers("needs"):
        for wanted in marker.args:
            if wanted not in kind.can and wanted not in capabilities:
                pytest.skip(f"the driver lacks {wanted.value}")
    async with opened() as world:
        yield world


@pytest.fixture
def events() -> RecordedEvents:
    return RecordedEvents()


@pytest.fixture
def rows() -> RecordedRows:
    return RecordedRows()


@pytest_asyncio.fixture(loop_scope="module")
async def state(world: DriverWorld, rows: RecordedRows) -> DriverState:
    """Paired; a message or two may be sent."""
    paired = await world.paired()
    rows.apply(paired.rows)
    if (ratchet := paired.state.ratchet) is not None:
        ratchet.confirm(ratchet.reserve(2))
    return paired.state


@pytest_asyncio.fixture(loop_scope="module")
async def connect(
    world: DriverWorld, state: DriverState, rows: RecordedRows, events: RecordedEvents
) -> AsyncIterator[Connect]:
    """Logs in, and closes in the end."""
    links: list[Link] = []

    async def connect() -> Link:
        links.append(await world.driver.connect(state, rows, events))
        return links[-1]

    yield connect
    for link in links:
        link.abort()


@pytest_asyncio.fixture(loop_scope="module")
async def link(connect: Connect) -> Link:
    return await connect()
