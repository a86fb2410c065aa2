"""The simulated network as a process of its own, for what has no mesh, or one with another network."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from bench.measuring.processes import start_module

_ENVIRONMENT = {
    "MESH_SIMULATOR_LISTEN": "127.0.0.1:0",
    "MESH_SIMULATOR_ACCEPT_AFTER_SECONDS": "0",
    "MESH_TELEMETRY_LOG_FORMAT": "json",
}


@dataclass(frozen=True, slots=True)
class SimulatedNetwork:
    """Its process, and where it listens, host:port."""

    pid: int
    address: str


@contextlib.contextmanager
def simulated_network() -> Iterator[SimulatedNetwork]:
    """Runs until the block ends; it accepts pairings by itself."""
    process = start_module("mesh_simulator", _ENVIRONMENT)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            event = json.loads(line)
            if event["event"] == "simulated network ready":
                break
        else:
            raise RuntimeError("the simulated network did not start")
        yield SimulatedNetwork(process.pid, str(event["network"]))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()
