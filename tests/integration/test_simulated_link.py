"""What the simulated network's driver reads of what it is sent."""

from __future__ import annotations

import asyncio

from mesh_session_node.drivers.simulated.intake import MOST_UNSTORED
from tests.support.eventually import eventually
from tests.support.link_events import RecordedEvents
from tests.support.recorded_rows import RecordedRows
from tests.support.simulator_world import simulated_world

PERSON = "phone:+4915112345678"
TEXT = "x" * 4096


async def test_no_more_is_read_than_may_wait_for_the_database() -> None:
    events = RecordedEvents()
    async with simulated_world() as world:
        link = await world.driver.connect((await world.paired()).state, RecordedRows(), events)
        count = 10 * MOST_UNSTORED
        for _ in range(count):
            await world.write_to(PERSON, TEXT)
        await eventually(lambda: len(events.incoming) >= MOST_UNSTORED)
        for _ in range(1000):  # turns of the loop, in which more would be read
            await asyncio.sleep(0)
        assert len(events.incoming) == MOST_UNSTORED
        stored = 0

        def all_came() -> bool:
            nonlocal stored
            for came in events.incoming[stored:]:
                link.acknowledge(came.network_id)
            stored = len(events.incoming)
            return stored == count

        await eventually(all_came)
        link.abort()
