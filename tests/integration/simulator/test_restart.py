"""What the simulated network still knows after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mesh_core.errors import InvalidField
from mesh_simulator.checker import check
from mesh_simulator.connections.timers import TimerWheel
from mesh_simulator.ledger.records import Kind, read_ledger
from mesh_simulator.network import Network
from sessionmesh.simnet.v1 import wire_pb2 as wire
from tests.support.eventually import eventually
from tests.support.simulated_client import SimulatedClient
from tests.support.simulated_network import ALICE, SOMEBODY, register, running, settings, upload


async def test_a_network_with_a_state_folder_goes_on_where_it_ended(tmp_path: Path) -> None:
    kept = settings(state=str(tmp_path), delivered_after_seconds=30.0)
    async with running(Network(kept)) as network:
        account, paired = register(network, ALICE)
        client = await SimulatedClient.open(network.address)
        await client.log_in(paired)
        blob = await upload(client, b"picture")
        client.send("M1", 5, SOMEBODY)
        await client.expect("ack")
        group_id = network.directory.create_group("g1", "Us", {ALICE: True}).group_id
        network.inbound.offer(account, wire.Inbound(id="IN1", sender=SOMEBODY, chat=SOMEBODY))
        network.inbound.offer(account, wire.Inbound(id="IN2", sender=SOMEBODY, chat=SOMEBODY))
        network.flush()
        await client.expect("inbound")
        client.write(wire.Frame(inbound_ack=wire.InboundAck(id="IN1")))
        await eventually(lambda: "IN1" not in account.inbound)
        client.abort()
    async with running(Network(settings(state=str(tmp_path)))) as network:
        client = await SimulatedClient.open(network.address)
        assert (await client.log_in(paired)).pending_inbound == 1
        assert (await client.expect("inbound")).inbound.id == "IN2"
        assert (await client.expect("receipt")).receipt.id == "M1"
        client.send("M1", 5, SOMEBODY)
        assert (await client.expect("reject")).reject.reason == wire.REJECT_REASON_RATCHET_REUSED
        client.send("M1", 6, f"group:{group_id}", blob_refs=(blob.ref,))
        assert (await client.expect("ack")).ack.duplicate
        client.send("M2", 7, f"group:{group_id}", blob_refs=(blob.ref,))
        assert not (await client.expect("ack")).ack.duplicate
        verdict = check(network.ledger.read())
        assert (verdict.sent, verdict.delivered, verdict.ratchet_reuse) == (2, 1, 1)
        client.abort()


async def test_what_was_acknowledged_is_on_disk(tmp_path: Path) -> None:
    async with running(Network(settings(state=str(tmp_path)))) as network:
        _, paired = register(network, ALICE)
        client = await SimulatedClient.open(network.address)
        await client.log_in(paired)
        client.send("M1", 0, SOMEBODY)
        await client.expect("ack")
        with (tmp_path / "ledger.bin").open("rb") as file:
            assert check(read_ledger(file)).sent == 1
        client.abort()


async def test_a_network_starts_with_whatever_stands_in_its_folder(tmp_path: Path) -> None:
    kept = settings(state=str(tmp_path))
    async with running(Network(kept)) as network:
        account, paired = register(network, ALICE)
        network.inbound.offer(account, wire.Inbound(id="IN1", sender=SOMEBODY, chat=SOMEBODY))
        strange = wire.Inbound(id="nul\0", sender=SOMEBODY, content=b"x").SerializeToString()
        network.ledger.append(Kind.INBOUND, account=account.number, text=f"nul\0\0{SOMEBODY}", body=strange)
        large = wire.Inbound(id="LARGE", content=b"x" * 2_000_000).SerializeToString()
        network.ledger.append(Kind.INBOUND, account=account.number, text=f"LARGE\0{SOMEBODY}", body=large)
        network.ledger.append(Kind.RECEIPT, account=4_000_000, code=250, text="M1\0")
    with (tmp_path / "accounts.jsonl").open("ab") as file:
        file.write(b'not json\n{"account": "+10000000"}\n')
    async with running(Network(kept)) as network:
        client = await SimulatedClient.open(network.address)
        assert (await client.log_in(paired)).pending_inbound == 1
        assert (await client.expect("inbound")).inbound.id == "IN1"
        client.abort()


@pytest.mark.parametrize(
    "message",
    [
        wire.Inbound(id="nul\0", sender=SOMEBODY, chat=SOMEBODY),
        wire.Inbound(id="x" * 65, sender=SOMEBODY, chat=SOMEBODY),
        wire.Inbound(id="IN1", sender=SOMEBODY, chat=SOMEBODY, content=b"x" * 1_048_576),
    ],
    ids=["NUL in its id", "long id", "larger than a frame"],
)
async def test_a_message_that_no_client_takes_is_not_offered(network: Network, message: wire.Inbound) -> None:
    account, _ = register(network, ALICE)
    with pytest.raises(InvalidField):
        network.inbound.offer(account, message)
    assert account.inbound == {}


async def test_what_is_due_is_called_though_something_before_it_failed() -> None:
    called: list[int] = []

    def fail() -> None:
        raise RuntimeError("not this one")

    timers = TimerWheel(lambda: None)
    timers.after(0.0, fail)
    timers.after(0.0, called.append, 1)
    running_timers = asyncio.create_task(timers.run())
    await eventually(lambda: called == [1])
    assert not running_timers.done()
    running_timers.cancel()
