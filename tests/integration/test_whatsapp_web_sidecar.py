"""The sidecar as a process: kept running, killed when it hangs, and never outliving its node. Its end is the
end of its connections and of nothing else.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End
from mesh_session_node.drivers.interface.pairing import PairingCode
from mesh_session_node.drivers.whatsapp_web.link import WebLink
from mesh_session_node.drivers.whatsapp_web.process import Process, find_program, version_of
from mesh_session_node.drivers.whatsapp_web.sidecar import PROTOCOL
from sessionmesh.internal.v1 import linked_device_pb2 as pb
from tests.support import fake_sidecar
from tests.support.eventually import eventually
from tests.support.link_events import RecordedEvents
from tests.support.sidecar_world import PATIENT_SECONDS, Account, HeldRows, SidecarWorld, sidecar_world
from tests.support.tools import missing_tool
from tests.support.whatsapp_web_world import is_built


def sidecars(parent: int | None = None) -> list[psutil.Process]:
    """The running sidecars of this process, or of another one."""
    return [
        child
        for child in psutil.Process(parent).children()
        if child.status() != psutil.STATUS_ZOMBIE
        and "tests.support.fake_sidecar" in " ".join(child.cmdline())
    ]


async def connected(world: SidecarWorld, account: Account) -> None:
    """The account is sent for through a sidecar that works."""
    await account.connect()
    assert account.link.ended is None


async def test_a_dead_sidecar_ends_its_connections_and_another_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sidecar_world(tmp_path, monkeypatch) as world:
        first, second = await world.account("acc_1"), await world.account("acc_2")
        (sidecar,) = sidecars()
        sidecar.kill()
        await eventually(lambda: first.events.ends and second.events.ends)
        assert first.events.ends == second.events.ends == [End.CARRIER_GONE]
        await connected(world, first)
        assert [one.pid for one in sidecars()] != [sidecar.pid]


async def test_a_connection_of_a_dead_sidecar_is_closed_once_that_is_reaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sidecar_world(tmp_path, monkeypatch) as world:
        account = await world.account()
        (sidecar,) = sidecars()
        sidecar.suspend()
        account.link.abort()
        closing = asyncio.create_task(account.link.closed())
        await asyncio.wait([closing], timeout=0.1)
        assert not closing.done()
        sidecar.kill()
        await closing
        assert not psutil.pid_exists(sidecar.pid)


async def test_a_connection_that_begins_when_its_sidecar_is_gone_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sidecar_world(tmp_path, monkeypatch) as world:
        await world.account()
        stream = await world.driver.sidecar.stream()
        for sidecar in sidecars():
            sidecar.kill()
        await eventually(lambda: stream.ended)
        rows, events = HeldRows("acc_2"), RecordedEvents()
        link = WebLink(stream, "phone:+4916", rows, events, 25.0)
        with pytest.raises(ConnectionEnded) as ended:
            # Who is not told waits for that when they are cancelled, too: hence another one.
            async with asyncio.timeout(PATIENT_SECONDS + 1.0), asyncio.timeout(PATIENT_SECONDS):
                await link.log_in(pb.OpenDevice(account_id="acc_2"))
        assert ended.value.end is End.CARRIER_GONE


async def test_who_connects_while_a_sidecar_ends_waits_for_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killing, killed = asyncio.Event(), asyncio.Event()
    kill = Process.kill

    async def slowly(process: Process) -> None:
        killing.set()
        await killed.wait()
        await kill(process)

    async with sidecar_world(tmp_path, monkeypatch) as world:
        account = await world.account()
        monkeypatch.setattr(Process, "kill", slowly)
        for sidecar in sidecars():
            sidecar.kill()
        await killing.wait()
        connecting = asyncio.create_task(world.driver.sidecar.stream())
        await asyncio.wait([connecting], timeout=0.1)
        assert not connecting.done()
        killed.set()
        stream = await connecting
        assert not stream.ended
        assert stream is not account.link._connection.stream


async def test_a_sidecar_that_hangs_is_killed_and_another_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sidecar_world(tmp_path, monkeypatch, hang_seconds=1.0) as world:
        account = await world.account()
        for sidecar in sidecars():
            sidecar.suspend()
        await eventually(lambda: account.events.ends)
        assert not psutil.pid_exists(sidecar.pid)
        await connected(world, account)


async def test_a_sidecar_that_is_behind_with_its_answers_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(fake_sidecar.BEHIND, "1")
    async with sidecar_world(tmp_path, monkeypatch, hang_seconds=1.0) as world:
        account = await world.account()
        # Another question is asked only of one that counts as there.
        await eventually(lambda: len(world.told("ping")) > 2)
        assert account.link.ended is None


async def test_no_sidecar_runs_before_an_account_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sidecar_world(tmp_path, monkeypatch) as world:
        await eventually(lambda: world.driver.program.version)
        assert world.driver.program.client_version == "2.3000"
        assert sidecars() == world.told("start") == []
        await world.account()
        assert len(sidecars()) == 1


async def test_the_real_sidecar_says_what_it_is() -> None:
    if not is_built():
        missing_tool("sidecar and test network are not built: run `make whatsapp-web`")
    version = await version_of(find_program())
    assert version is not None
    assert version.protocol == PROTOCOL
    assert all((version.version, version.library_version, version.client_version))


async def test_a_pairing_starts_the_sidecar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with sidecar_world(tmp_path, monkeypatch) as world:
        pairing = world.driver.pair(account_id="acc_1", by_code=False, phone="", seconds=60.0)
        step = await anext(pairing)
        assert isinstance(step, PairingCode)
        assert len(sidecars()) == 1
        await pairing.aclose()


@pytest.mark.parametrize(
    ("version", "problem"),
    [("2", "speaks version 2"), ("none", "does not say its version"), ("mute", "did not answer")],
    ids=["version", "none", "mute"],
)
async def test_a_sidecar_that_cannot_be_spoken_to_is_told_of_before_an_account_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, problem: str
) -> None:
    # The mute one's time to start must not end the others' before that has begun.
    patience: dict[str, Any] = {"start_seconds": 0.2} if version == "mute" else {}
    async with sidecar_world(tmp_path, monkeypatch, version=version, **patience) as world:
        await eventually(lambda: world.driver.program.problem)
        assert problem in world.driver.program.problem
        assert world.told("start") == []


@pytest.mark.parametrize(
    ("protocol", "problem"), [(2, "speaks version 2"), (0, "did not answer")], ids=["version", "mute"]
)
async def test_a_sidecar_that_cannot_be_spoken_to_is_killed_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int, problem: str
) -> None:
    patience: dict[str, Any] = {"start_seconds": 2.0} if protocol == 0 else {}
    async with sidecar_world(tmp_path, monkeypatch, protocol=protocol, **patience) as world:
        with pytest.raises(ConnectionEnded, match="does not run"):
            await world.account()
        await eventually(lambda: world.driver.program.problem)
        with pytest.raises(ConnectionEnded) as refused:
            await world.account()
        assert (refused.value.end, problem in refused.value.detail) == (End.LOST, True)
        assert problem in world.driver.program.problem


async def test_without_the_program_an_account_is_told_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sidecar_world(tmp_path, monkeypatch, sidecar=str(tmp_path / "nothing")) as world:
        await eventually(lambda: "make whatsapp-web" in world.driver.program.problem)
        with pytest.raises(ConnectionEnded, match="make whatsapp-web"):
            await world.account()


async def test_a_sidecar_that_talks_nonsense_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sidecar_world(tmp_path, monkeypatch) as world:
        account = await world.account()
        account.has_said_bytes(b"\xff\xff\xff")
        await eventually(lambda: account.events.ends)
        await connected(world, account)


async def test_what_cannot_be_ends_its_own_connection_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sidecar_world(tmp_path, monkeypatch) as world:
        odd, other = await world.account("acc_1"), await world.account("acc_2")
        nameless = pb.StateRowChange(key="", value=b"")
        odd.has_said(write_rows=pb.WriteRows(sequence=1, changes=[nameless]))
        await eventually(lambda: odd.events.ends)
        await odd.link.closed()
        assert (odd.events.ends, odd.rows.writes) == ([End.LOST], [])
        await other.link.check_numbers(["+4916"])


async def test_an_account_with_too_much_to_store_loses_its_connection_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh_session_node.drivers.whatsapp_web.connection.MAX_UNSETTLED", 3)
    async with sidecar_world(tmp_path, monkeypatch) as world:
        flooded, other = await world.account("acc_1"), await world.account("acc_2")
        for sequence in range(1, 5):
            change = pb.StateRowChange(key="k", value=b"v")
            flooded.has_said(write_rows=pb.WriteRows(sequence=sequence, changes=[change]))
        await eventually(lambda: flooded.events.ends)
        assert len(flooded.rows.writes) == 3
        await other.link.check_numbers(["+4916"])


async def test_a_stopped_node_leaves_no_sidecar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with sidecar_world(tmp_path, monkeypatch) as world:
        await world.account()
        (sidecar,) = sidecars()
    assert not psutil.pid_exists(sidecar.pid)


NODE = """
import asyncio
from mesh_session_node.drivers.whatsapp_web.settings import WhatsappWebSettings
from mesh_session_node.drivers.whatsapp_web.sidecar import Sidecar

async def main():
    sidecar = Sidecar(WhatsappWebSettings(sidecar={program!r}, start_seconds=60.0, hang_seconds=60.0))
    running = asyncio.create_task(sidecar.run())
    await sidecar.stream()
    print("runs", flush=True)
    await running

asyncio.run(main())
"""


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
async def test_a_sidecar_dies_with_its_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    monkeypatch.setenv(fake_sidecar.HEARD, str(tmp_path / "heard"))
    node = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        NODE.format(program=str(fake_sidecar.install(tmp_path))),
        stdout=asyncio.subprocess.PIPE,
    )
    assert node.stdout is not None
    try:
        while await node.stdout.readline() != b"runs\n":  # beside its log
            assert not node.stdout.at_eof()
        (sidecar,) = sidecars(node.pid)
        if stopped:
            os.kill(sidecar.pid, signal.SIGSTOP)
    finally:
        node.kill()
        await node.wait()
    await eventually(lambda: has_ended(sidecar))


def has_ended(process: Any) -> bool:
    """Whether it has, whoever reaps it."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
