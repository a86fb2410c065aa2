"""The drivers of a node, by name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mesh_core.errors import FailedPrecondition
from mesh_session_node.drivers.memory.driver import MemoryDriver
from mesh_session_node.drivers.registry import Drivers
from mesh_session_node.drivers.simulated.driver import SimnetSettings, SimulatedDriver
from mesh_session_node.drivers.whatsapp_web.driver import WhatsappWebDriver
from mesh_session_node.drivers.whatsapp_web.settings import WhatsappWebSettings

SETTINGS = SimpleNamespace(simnet=SimnetSettings(), whatsapp_web=WhatsappWebSettings())


def test_a_name_leads_to_the_driver_made_from_the_settings() -> None:
    drivers = Drivers.from_settings(SETTINGS)
    assert isinstance(drivers.get("simulated"), SimulatedDriver)
    assert isinstance(drivers.get("whatsapp_web"), WhatsappWebDriver)


@pytest.mark.parametrize("name", ["whatsapp_cloud", "memory", ""])
def test_a_network_that_this_mesh_has_no_driver_for_is_unsupported(name: str) -> None:
    drivers = Drivers.from_settings(SETTINGS)
    with pytest.raises(FailedPrecondition) as refused:
        drivers.get(name)
    assert refused.value.reason == "UNSUPPORTED_BY_NETWORK"


def test_a_test_brings_its_own_driver() -> None:
    memory = MemoryDriver()
    assert Drivers({memory.name: memory}).get("memory") is memory
