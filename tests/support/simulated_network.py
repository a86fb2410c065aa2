"""A simulated network in the test's own process, with accounts that need no pairing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from mesh_simulator.accounts.account import Account
from mesh_simulator.ledger.records import Kind, Record
from mesh_simulator.network import Network
from mesh_simulator.settings import SimulatorSettings
from sessionmesh.simnet.v1 import wire_pb2 as wire
from tests.support.simulated_client import SimulatedClient

ALICE, BOB = "+15550000001", "+15550000002"
SOMEBODY = "phone:+4915112345678"
"""The address of a person who has no account."""
UPLOAD_PIECE_BYTES = 100_000

Connect = Callable[[], Awaitable[SimulatedClient]]
"""Opens a connection that the fixture drops in the end."""


def settings(**changes: Any) -> SimulatorSettings:
    values = {"listen": "127.0.0.1:0", "delivered_after_seconds": 0.0, "linger_seconds": 0.2}
    return SimulatorSettings(**{**values, **changes})


@asynccontextmanager
async def running(network: Network) -> AsyncIterator[Network]:
    """Start the network, and close it in the end."""
    await network.start()
    timers = asyncio.create_task(network.timers.run(), name="timers")
    yield network
    timers.cancel()
    await network.close()


def register(network: Network, phone: str) -> tuple[Account, wire.Paired]:
    """A new account, and a credential that was issued without a pairing."""
    account = network.directory.create_account(phone, "Somebody")
    return account, wire.Paired(user_id=account.user_id, phone=phone, secret=network.pairing.issue(account))


def login_frame(paired: wire.Paired, counter: int = 0) -> wire.Frame:
    return wire.Frame(login=wire.Login(user_id=paired.user_id, secret=paired.secret, counter=counter))


async def logged_in(connect: Connect, paired: wire.Paired, *, receipt_acks: bool = False) -> SimulatedClient:
    """A new session of the account."""
    client = await connect()
    await client.log_in(paired, receipt_acks=receipt_acks)
    return client


def records_of(network: Network, *kinds: Kind) -> list[Record]:
    return [record for record in network.ledger.read() if record.kind in kinds]


async def upload(client: SimulatedClient, data: bytes) -> wire.BlobStored:
    """Upload a blob in several pieces."""
    pieces = [data[at : at + UPLOAD_PIECE_BYTES] for at in range(0, len(data), UPLOAD_PIECE_BYTES)]
    for number, piece in enumerate(pieces, 1):
        put = wire.BlobPut(transfer=1, data=piece, last=number == len(pieces))
        client.write(wire.Frame(blob_put=put))
    return (await client.expect("blob_stored")).blob_stored
