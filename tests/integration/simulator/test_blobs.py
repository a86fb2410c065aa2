"""Uploads to the simulated network, and downloads from it."""

from __future__ import annotations

from hashlib import sha256

import pytest

from mesh_simulator.network import Network
from sessionmesh.simnet.v1 import wire_pb2 as wire
from tests.support.simulated_client import SimulatedClient
from tests.support.simulated_network import ALICE, Connect, logged_in, register, running, settings, upload


@pytest.mark.parametrize("offset", [0, 700_000, 1_000_000])
async def test_a_blob_comes_back_as_it_went(network: Network, connect: Connect, offset: int) -> None:
    _, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    data = bytes(range(250)) * 4000
    stored = await upload(client, data)
    assert (stored.size, stored.sha256) == (len(data), sha256(data).digest())
    client.write(wire.Frame(blob_get=wire.BlobGet(transfer=3, ref=stored.ref, offset=offset)))
    fetched = b""
    while True:
        chunk = (await client.expect("blob_chunk")).blob_chunk
        fetched += chunk.data
        if chunk.last:
            break
    assert fetched == data[offset:]


async def test_a_blob_above_the_limit_is_refused(connect: Connect) -> None:
    async with running(Network(settings(max_blob_bytes=1000))) as network:
        _, paired = register(network, ALICE)
        client = await SimulatedClient.open(network.address)
        await client.log_in(paired)
        client.write(wire.Frame(blob_put=wire.BlobPut(transfer=1, data=bytes(1001), last=True)))
        assert (await client.expect("blob_refused")).blob_refused.reason == wire.BLOB_REFUSAL_TOO_LARGE
        client.abort()


async def test_an_unknown_blob_is_refused(network: Network, connect: Connect) -> None:
    _, paired = register(network, ALICE)
    client = await logged_in(connect, paired)
    client.write(wire.Frame(blob_get=wire.BlobGet(transfer=1, ref="none")))
    assert (await client.expect("blob_refused")).blob_refused.fetch
