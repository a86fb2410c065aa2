"""Which networks there are: a driver's name leads to how it is made from the node's settings.

A new driver has its folder beside this module, its settings there, and its line in `_MAKERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, Protocol

from mesh_core.errors import FailedPrecondition
from mesh_session_node.drivers.interface.driver import Driver
from mesh_session_node.drivers.simulated.driver import SimnetSettings, SimulatedDriver
from mesh_session_node.drivers.whatsapp_web.driver import WhatsappWebDriver
from mesh_session_node.drivers.whatsapp_web.settings import WhatsappWebSettings


class DriverSettings(Protocol):
    """The sections of the node's settings that drivers are made from."""

    @property
    def simnet(self) -> SimnetSettings: ...
    @property
    def whatsapp_web(self) -> WhatsappWebSettings: ...


class Drivers:
    """The drivers of a node by their names, which accounts have in `driver`."""

    def __init__(self, drivers: Mapping[str, Driver]) -> None:
        self._drivers = dict(drivers)

    @classmethod
    def from_settings(cls, settings: DriverSettings) -> Drivers:
        """Every driver that this version has."""
        return cls({name: make(settings) for name, make in _MAKERS.items()})

    def __iter__(self) -> Iterator[Driver]:
        return iter(self._drivers.values())

    def background(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """What goes on by itself while the node runs, each with its name."""
        for driver in self._drivers.values():
            if isinstance(driver, WhatsappWebDriver):
                yield "sidecar", driver.sidecar.run()

    def get(self, name: str) -> Driver:
        """The driver of that name. Raises `FailedPrecondition` UNSUPPORTED_BY_NETWORK."""
        driver = self._drivers.get(name)
        if driver is None:
            raise FailedPrecondition(f"this mesh has no driver {name}", "UNSUPPORTED_BY_NETWORK")
        return driver


def _simulated(settings: DriverSettings) -> Driver:
    return SimulatedDriver(settings.simnet.address)


def _whatsapp_web(settings: DriverSettings) -> Driver:
    return WhatsappWebDriver(settings.whatsapp_web)


_MAKERS: Mapping[str, Callable[[DriverSettings], Driver]] = {
    SimulatedDriver.name: _simulated,
    WhatsappWebDriver.name: _whatsapp_web,
}
