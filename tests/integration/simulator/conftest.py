"""A simulated network for each test: it starts in a millisecond, and its ledger is judged as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mesh_simulator.network import Network
from tests.support.simulated_client import SimulatedClient
from tests.support.simulated_network import Connect, running, settings
from tests.support.simulator_operator import Operator, operator_of


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    async with running(Network(settings())) as network:
        yield network


@pytest.fixture
async def connect(network: Network) -> AsyncIterator[Connect]:
    """Opens connections and drops them in the end."""
    clients: list[SimulatedClient] = []

    async def connect() -> SimulatedClient:
        clients.append(await SimulatedClient.open(network.address))
        return clients[-1]

    yield connect
    for client in clients:
        client.abort()


@pytest.fixture
async def operator(network: Network) -> AsyncIterator[Operator]:
    """Whoever runs the network."""
    async with operator_of(network) as operator:
        yield operator
