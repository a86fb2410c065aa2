"""What the simulated network still knows after a restart."""

from __future__ import annotations

from pathlib import Path

from mesh_simulator.checker import check
from mesh_simulator.ledger.records import read_ledger
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
