"""What the cases of the contract share: a network that has what a case needs, and an account of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import cast

import pytest

from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.driver import Link
from mesh_session_node.drivers.interface.state import DriverState
from tests.support.driver_contract import PHONE, Connect
from tests.support.driver_worlds import WORLDS, DriverWorld
from tests.support.link_events import RecordedEvents
from tests.support.recorded_rows import RecordedRows


@pytest.fixture(params=WORLDS)
async def world(request: pytest.FixtureRequest) -> AsyncIterator[DriverWorld]:
    """A network that has what the case needs; else the case is skipped."""
    kind, opened = WORLDS[request.param]
    capabilities = cast("Collection[Capability]", kind.kind.capabilities)
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


@pytest.fixture
async def state(world: DriverWorld, rows: RecordedRows) -> DriverState:
    """Paired; a message or two may be sent."""
    paired = await world.paired(PHONE)
    rows.apply(paired.rows)
    if (ratchet := paired.state.ratchet) is not None:
        ratchet.confirm(ratchet.reserve(2))
    return paired.state


@pytest.fixture
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


@pytest.fixture
async def link(connect: Connect) -> Link:
    return await connect()
