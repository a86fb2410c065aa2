"""What drivers make of an account's settings: the device that they pair, and what they connect through."""

from __future__ import annotations

import pytest

from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.device import NewDevice, Proxy
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded
from mesh_session_node.drivers.interface.pairing import Paired, PairingCode
from mesh_session_node.drivers.interface.state import DriverState
from tests.support.driver_contract import needs
from tests.support.driver_worlds import DriverWorld
from tests.support.link_events import RecordedEvents
from tests.support.proxy_server import ProxyServer, proxy_server
from tests.support.recorded_rows import RecordedRows

pytestmark = pytest.mark.asyncio(loop_scope="module")


def through(server: ProxyServer, login: str | None = None) -> Proxy:
    """The server as an account's proxy, by a name that is nobody's."""
    return Proxy(server.url("socks5", login, host="proxy.invalid"), "127.0.0.1", server.port)


async def pair(world: DriverWorld, device: NewDevice) -> Paired:
    steps = world.driver.pair(account_id="acc_1", by_code=False, phone="", seconds=60.0, device=device)
    try:
        async for step in steps:
            if isinstance(step, Paired):
                await steps.stored()
                return step
            assert isinstance(step, PairingCode)
            await world.accept(step)
    finally:
        await steps.aclose()
    raise AssertionError("nobody accepted in time")


async def test_a_new_device_is_called_as_its_owner_wants(world: DriverWorld) -> None:
    await pair(world, NewDevice("Front desk", with_history=True))
    assert await world.device() == ("Front desk", True)


async def test_a_new_device_has_a_name_of_the_drivers_own_and_asks_for_no_history(world: DriverWorld) -> None:
    await pair(world, NewDevice())
    name, with_history = await world.device()
    assert name
    assert not with_history


@needs(Capability.PROXY)
async def test_an_account_pairs_and_connects_through_its_proxy(
    world: DriverWorld, rows: RecordedRows, events: RecordedEvents
) -> None:
    async with proxy_server("anna:secret") as server:
        proxy = through(server)
        paired = await pair(world, NewDevice(proxy=proxy))
        assert world.went_through(server, 1)
        rows.apply(paired.rows)
        link = await world.driver.connect(paired.state, rows, events, proxy)
        assert world.went_through(server, 2)
        assert link.ended is None
        link.abort()
        await link.closed()


@needs(Capability.PROXY)
async def test_an_account_whose_proxy_refuses_it_does_not_connect_past_it(
    world: DriverWorld, state: DriverState, rows: RecordedRows, events: RecordedEvents
) -> None:
    async with proxy_server("anna:secret") as server:
        await world.refuse_proxy(server)
        with pytest.raises(ConnectionEnded) as ended:
            await world.driver.connect(state, rows, events, through(server, "anna:other"))
    assert "other" not in ended.value.detail
    assert not server.targets
