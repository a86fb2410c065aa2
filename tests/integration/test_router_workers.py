"""Several routers on one port: the parent, its workers, and what callers notice."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import msgspec
import psutil
import pytest
from grpc import StatusCode

from mesh_cli.embedded import free_port
from mesh_parent import command_line
from sessionmesh.v1 import common_pb2, message_pb2, message_pb2_grpc
from tests.support.eventually import eventually
from tests.support.router_process import ProcessWorld, process_world, pss
from tests.support.router_world import ADMIN, new_account

pytestmark = pytest.mark.slow

MOST_MEMORY = 20 * 2**20


class Messages(message_pb2_grpc.MessageServiceServicer):
    """Answers at once, or after `release` when the message is "wait"."""

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self.release = asyncio.Event()

    async def GetMessage(self, request: Any, _context: Any) -> Any:
        if request.message.message_id == "wait":
            self.waiting.set()
            await self.release.wait()
        return message_pb2.GetMessageResponse()


@pytest.fixture
async def world(postgres_url: str, etcd: str, cluster: str, tmp_path: Path) -> AsyncIterator[ProcessWorld]:
    async with process_world(postgres_url, etcd, cluster, tmp_path) as running:
        yield running


async def owned(world: ProcessWorld) -> tuple[Messages, str]:
    """A node, and an account that it owns."""
    messages, account = Messages(), new_account()
    node = await world.node("n1", {message_pb2_grpc.add_MessageServiceServicer_to_server: messages})
    await node.own(account)
    return messages, account


def get(channel: grpc.aio.Channel, account: str, message: str = "m") -> Any:
    request = message_pb2.GetMessageRequest(
        account_id=account, message=common_pb2.MessageRef(message_id=message)
    )
    return message_pb2_grpc.MessageServiceStub(channel).GetMessage(request, metadata=ADMIN, timeout=20)


def connections(worker: psutil.Process, port: int) -> int:
    """How many callers a worker has."""
    return sum(
        one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED
        for one in worker.net_connections("tcp")
    )


async def test_workers_share_one_port_and_its_connections(world: ProcessWorld) -> None:
    _, account = await owned(world)
    router = await world.start(workers=2)
    port = int(world.address.rpartition(":")[2])
    for _ in range(100):
        await get(world.open(world.address), account)
        if all(connections(worker, port) for worker in router.workers()):
            break
    assert [connections(worker, port) > 0 for worker in router.workers()] == [True, True]


async def test_each_worker_registers_itself_under_the_shared_address(
    world: ProcessWorld, cluster: str
) -> None:
    await world.start(workers=3)

    async def registered() -> list[Any] | None:
        found = await world.etcd.prefix(f"/{cluster}/services/router/".encode())
        return [msgspec.json.decode(kv.value) for kv in found.kvs] if len(found.kvs) == 3 else None

    infos = await eventually(registered, what="three registrations")
    assert len({info["id"] for info in infos}) == 3
    assert {info["address"] for info in infos} == {world.address}


async def test_each_worker_shows_its_metrics_a_port_above_the_one_before(world: ProcessWorld) -> None:
    first = free_port()
    await world.start(workers=2, MESH_SERVER_METRICS_LISTEN=f"127.0.0.1:{first}")
    async with aiohttp.ClientSession() as session:
        for port in (first, first + 1):
            async with session.get(f"http://127.0.0.1:{port}/metrics") as page:
                assert "sessionmesh-router" in await page.text()


async def test_the_first_signal_drains_every_worker(world: ProcessWorld) -> None:
    messages, account = await owned(world)
    router = await world.start(workers=2)
    call = asyncio.ensure_future(get(world.channel, account, "wait"))
    async with asyncio.timeout(10):
        await messages.waiting.wait()
    router.signal(signal.SIGTERM)
    await router.until_logged("draining", 2)
    messages.release.set()
    await call
    assert await router.ended() == 0


async def test_the_second_signal_stops_every_worker(world: ProcessWorld) -> None:
    messages, account = await owned(world)
    router = await world.start(workers=2, MESH_SERVER_DRAIN_SECONDS="600")
    call = asyncio.ensure_future(get(world.channel, account, "wait"))
    async with asyncio.timeout(10):
        await messages.waiting.wait()
    family = router.workers()
    router.signal(signal.SIGTERM)
    await router.until_logged("draining", 2)
    router.signal(signal.SIGINT)
    assert await router.ended(15) == 128 + signal.SIGINT
    assert not any(one.is_running() for one in family)
    with pytest.raises(grpc.aio.AioRpcError):
        await call


async def test_a_killed_worker_costs_its_calls_one_retry_and_is_started_again(world: ProcessWorld) -> None:
    messages, account = await owned(world)
    router = await world.start(workers=2)
    port = int(world.address.rpartition(":")[2])
    call = asyncio.ensure_future(get(world.channel, account, "wait"))
    async with asyncio.timeout(10):
        await messages.waiting.wait()
    [victim] = [worker for worker in router.workers() if connections(worker, port)]
    victim.kill()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    assert raised.value.code() is StatusCode.UNAVAILABLE
    await eventually(lambda: victim not in router.workers())  # its port is closed then
    await get(world.channel, account)
    await router.until_logged("serving", 3)
    assert len(router.workers()) == 2
    assert victim.pid not in {worker.pid for worker in router.workers()}


async def test_workers_do_not_outlive_their_parent(world: ProcessWorld) -> None:
    router = await world.start(workers=2)
    family = router.workers()
    router.signal(signal.SIGKILL)
    await router.ended()
    await eventually(lambda: not any(one.is_running() for one in family), what="the end of the workers")


async def test_no_other_router_gets_the_port_of_workers(world: ProcessWorld) -> None:
    await world.start(workers=2)
    for workers in ("1", "2"):
        other = await world.launch(MESH_SERVER_LISTEN=world.address, MESH_ROUTER_WORKERS=workers)
        assert await other.ended() == 69
        last = other.log.lines()[-1]
        assert last.startswith(f"MESH_SERVER_LISTEN='{world.address}' cannot be bound"), last


async def test_workers_that_cannot_start_end_with_the_reason(world: ProcessWorld) -> None:
    nobody = f"postgresql://nobody@127.0.0.1:{free_port()}/nothing"
    router = await world.launch(MESH_ROUTER_WORKERS="2", MESH_DATABASE_URL=nobody)
    assert await router.ended() == 69


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_an_empty_database_ends_routers_with_the_remedy(
    world: ProcessWorld, empty_database_url: str, workers: str
) -> None:
    router = await world.launch(MESH_ROUTER_WORKERS=workers, MESH_DATABASE_URL=empty_database_url)
    assert await router.ended() == 78
    assert any(line.endswith("run `mesh db migrate`") for line in router.log.lines())
    if workers == "1":  # of several, others may still say that they drain
        assert router.log.lines()[-1].endswith("run `mesh db migrate`")


@pytest.mark.parametrize("workers", ["0", "many"])
async def test_a_wrong_number_of_workers_is_refused(world: ProcessWorld, workers: str) -> None:
    router = await world.launch(MESH_ROUTER_WORKERS=workers)
    assert await router.ended() == 64
    [line] = router.log.lines()
    assert line.startswith(f"MESH_ROUTER_WORKERS='{workers}' is wrong")


class Parent:
    """The parent of a command that a test gives it."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def hear(self) -> str:
        """The next line of a worker."""
        assert self.process.stdout is not None
        async with asyncio.timeout(30):
            return (await self.process.stdout.readline()).decode().strip()

    async def ended(self) -> int:
        async with asyncio.timeout(30):
            return await self.process.wait()


SAY = """
import os
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # at once: the workers share the pipe
"""


IMPATIENT = """
import sys
from mesh_parent import beats, prefork
beats.FROZEN_SECONDS = {}
sys.exit(prefork.main(sys.argv[1:]))
"""


@pytest.fixture
async def launch() -> AsyncIterator[Any]:
    started: list[Parent] = []

    async def start(
        script: str, workers: int = 2, listen: str = "127.0.0.1:0", frozen_seconds: float | None = None
    ) -> Parent:
        options = {"--workers": str(workers), "--listen": listen, "--metrics": "127.0.0.1:9000"}
        command = command_line("prefork", options, [sys.executable, "-c", SAY + script])
        if frozen_seconds is not None:
            command = [
                sys.executable,
                "-c",
                IMPATIENT.format(frozen_seconds),
                *command[command.index("--workers") :],
            ]
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
        started.append(Parent(process))
        return started[-1]

    yield start
    for parent in started:
        if parent.process.returncode is None:
            parent.process.kill()
        await parent.process.communicate()


async def test_workers_know_their_number_their_port_and_their_page(launch: Any) -> None:
    names = "MESH_WORKER", "MESH_SERVER_LISTEN", "MESH_SERVER_METRICS_LISTEN"
    script = f"import os, signal; say(*(os.environ[name] for name in {names})); signal.pause()"
    parent = await launch(script, workers=3)
    told = sorted([(await parent.hear()).split() for _ in range(3)])
    assert [number for number, _, _ in told] == ["1", "2", "3"]
    assert len({listen for _, listen, _ in told}) == 1
    assert [page for _, _, page in told] == ["127.0.0.1:9000", "127.0.0.1:9001", "127.0.0.1:9002"]


async def test_the_parent_is_small(launch: Any) -> None:
    parent = await launch("import os, signal; say(os.getpid()); signal.pause()")
    await parent.hear()
    assert pss(parent.process.pid) < MOST_MEMORY


async def test_a_worker_that_keeps_dying_is_started_ever_later(launch: Any) -> None:
    parent = await launch("import time; say(time.monotonic()); raise SystemExit(70)", workers=1)
    starts = [float(await parent.hear()) for _ in range(5)]
    for (earlier, later), backoff in zip(pairwise(starts), (0.1, 0.2, 0.4, 0.8), strict=True):
        assert later - earlier > backoff


async def test_a_worker_that_is_drained_alone_is_replaced(launch: Any) -> None:
    script = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
say(os.environ["MESH_WORKER"], os.getpid())
signal.pause()
"""
    parent = await launch(script)
    pids = dict([(await parent.hear()).split() for _ in range(2)])
    os.kill(int(pids["2"]), signal.SIGTERM)
    number, pid = (await parent.hear()).split()
    assert number == "2"
    assert pid != pids["2"]


async def test_a_worker_that_ignores_both_signals_is_killed(launch: Any) -> None:
    script = """
import os, signal
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, _: say("ignored"))
say("ready")
while True:
    signal.pause()
"""
    parent = await launch(script, workers=1)
    assert await parent.hear() == "ready"
    for number in (signal.SIGTERM, signal.SIGINT):
        parent.process.send_signal(number)
        assert await parent.hear() == "ignored"
    assert await parent.ended() == 128 + signal.SIGKILL


BEATING = """
import os, time
from mesh_parent import beats
beats.beat()
say(os.environ["MESH_WORKER"], os.getpid())
while True:
    beats.beat()
    time.sleep(0.05)
"""


async def test_a_worker_that_freezes_is_replaced_and_those_that_beat_stay(launch: Any) -> None:
    parent = await launch(BEATING, frozen_seconds=2.0)
    pids = dict([(await parent.hear()).split() for _ in range(2)])
    os.kill(int(pids["2"]), signal.SIGSTOP)
    number, pid = (await parent.hear()).split()
    assert number == "2"
    assert pid != pids["2"]
    os.kill(int(pids["1"]), 0)  # it is there


async def test_workers_that_never_beat_are_left_alone(launch: Any) -> None:
    script = """
import os, signal
say(os.environ["MESH_WORKER"], os.getpid())
if os.environ["MESH_WORKER"] == "1":
    signal.pause()
from mesh_parent import beats
beats.beat()
signal.pause()
"""
    parent = await launch(script, frozen_seconds=0.5)
    pids = dict([(await parent.hear()).split() for _ in range(2)])
    for _ in range(2):  # the one that began to beat is replaced twice
        assert (await parent.hear()).split()[0] == "2"
    os.kill(int(pids["1"]), 0)  # it is there


async def test_a_failure_while_draining_is_told_by_the_exit_code(launch: Any) -> None:
    script = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(70 if os.environ["MESH_WORKER"] == "2" else 0))
say("ready")
signal.pause()
"""
    parent = await launch(script)
    for _ in range(2):
        assert await parent.hear() == "ready"
    parent.process.send_signal(signal.SIGTERM)
    assert await parent.ended() == 70


async def test_one_workers_bad_settings_end_all(launch: Any) -> None:
    script = """
import os, signal, sys
if os.environ["MESH_WORKER"] == "2":
    sys.exit(64)
signal.pause()
"""
    parent = await launch(script)
    assert await parent.ended() == 64


async def test_bad_settings_of_the_only_worker_are_told_by_the_exit_code(launch: Any) -> None:
    parent = await launch("raise SystemExit(64)", workers=1)
    assert await parent.ended() == 64


async def test_a_port_in_use_is_told_in_one_line(launch: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        parent = await launch("", listen=listen)
        assert await parent.ended() == 69
        _, errors = await parent.process.communicate()
    assert errors.decode().startswith(f"MESH_SERVER_LISTEN='{listen}' cannot be bound: is another process")
