"""SimulatorService over gRPC, as operators call it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from mesh_core.rpc.auth import KeyAuthenticator
from mesh_core.rpc.channels import Metadata, mesh_metadata, open_channel
from mesh_core.rpc.server import Server
from mesh_core.settings import AuthSettings, ServerSettings
from mesh_simulator.network import Network
from mesh_simulator.service import SimulatorServicer
from mesh_simulator.serving import no_other_keys
from sessionmesh.simnet.v1 import wire_pb2 as wire
from sessionmesh.simulator.v1 import simulator_pb2 as api
from sessionmesh.simulator.v1 import simulator_pb2_grpc
from tests.support.simulated_client import SimulatedClient

MESH_KEY = "a mesh key for tests"


class Operator:
    """The service's stub with its credentials, and the network's address."""

    def __init__(self, channel: grpc.aio.Channel, network: str) -> None:
        self.stub = simulator_pb2_grpc.SimulatorServiceStub(channel)
        self.metadata: Metadata = mesh_metadata(MESH_KEY)
        self.network = network

    async def ask(self, method: str, **fields: Any) -> Any:
        """Call a method of the service."""
        request = getattr(api, f"{method}Request")(**fields)
        return await getattr(self.stub, method)(request, metadata=self.metadata)

    async def paired(self, phone: str) -> wire.Paired:
        """A new account's credential."""
        await self.ask("CreateNetworkAccount", phone=phone)
        issued = await self.ask("IssueCredential", phone=phone)
        return wire.Paired(user_id=issued.user_id, secret=issued.secret)

    async def client(self, phone: str) -> SimulatedClient:
        """A new account's session."""
        client = await SimulatedClient.open(self.network)
        await client.log_in(await self.paired(phone))
        return client

    async def inject(self, **fields: Any) -> str:
        """Write to an account; returns the network message id."""
        network_message_id: str = (await self.ask("InjectMessage", **fields)).network_message_id
        return network_message_id

    async def verdict(self, *calls: api.CallerRecord) -> api.GetVerdictResponse:
        verdict: api.GetVerdictResponse = await self.ask("GetVerdict", calls=calls)
        return verdict


@asynccontextmanager
async def operator_of(network: Network) -> AsyncIterator[Operator]:
    """Serve SimulatorService of a running network, and call it with the mesh's key."""
    server = Server(
        ServerSettings(drain_seconds=0),
        authenticator=KeyAuthenticator(no_other_keys, AuthSettings(mesh_key=MESH_KEY)),
    )
    server.add(simulator_pb2_grpc.add_SimulatorServiceServicer_to_server, SimulatorServicer(network))
    await server.start()
    async with open_channel(server.address) as channel:
        yield Operator(channel, network.address)
    await server.drain()
    await server.stop()
