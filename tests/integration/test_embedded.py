"""Embedded servers: their data outlive them, they outlive nobody, and a directory has one owner."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import cast

import aiohttp
import asyncpg
import psutil
import pytest
from redis.asyncio import Redis

from mesh_cli.embedded import (
    EmbeddedEtcd,
    EmbeddedPostgres,
    EmbeddedRedis,
    EmbeddedServer,
    ServerFailed,
    StateInUse,
    free_port,
    ports,
)
from mesh_cli.embedded.ports import LOOPBACK
from mesh_cli.up.child import Child, ChildPlan
from mesh_cli.up.keeping import keep_running
from mesh_core.etcd import Etcd
from mesh_parent.etcd_gateway import Gateway
from tests.conftest import LoopThread
from tests.support.eventually import eventually

pytestmark = pytest.mark.slow

SERVERS: list[type[EmbeddedServer]] = [EmbeddedEtcd, EmbeddedPostgres, EmbeddedRedis]
every_server = pytest.mark.parametrize("kind", SERVERS, ids=lambda kind: kind.name)

OWNER = """
import asyncio, sys
from pathlib import Path
from mesh_cli.embedded import EmbeddedEtcd, EmbeddedPostgres, EmbeddedRedis

async def main():
    servers = [kind(Path(sys.argv[1])) for kind in (EmbeddedEtcd, EmbeddedPostgres, EmbeddedRedis)]
    for server in servers:
        await server.start()
    print(*(server.pid for server in servers), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def new_cluster(server_loop: LoopThread, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state directory of a Postgres that was started and stopped once; making one takes a second."""
    state = tmp_path_factory.mktemp("state")
    server = EmbeddedPostgres(state)
    server_loop.run(server.start())
    server_loop.run(server.stop())
    return state


@pytest.fixture
def postgres_state(new_cluster: Path, tmp_state: Path) -> Path:
    """A copy of it for one test."""
    subprocess.run(["cp", "-a", new_cluster / "postgres", tmp_state], check=True)
    return tmp_state


async def test_postgres_continues_with_its_data(postgres_state: Path) -> None:
    server = EmbeddedPostgres(postgres_state)
    await _postgres(await server.start(), "CREATE TABLE kept AS SELECT 7 AS value")
    await server.stop()

    assert await _postgres(await server.start(), "SELECT value FROM kept") == 7
    await server.stop()


async def test_postgres_continues_after_it_was_killed(postgres_state: Path) -> None:
    server = EmbeddedPostgres(postgres_state)
    await _postgres(await server.start(), "CREATE TABLE kept AS SELECT 7 AS value")
    os.kill(server.pid, signal.SIGKILL)
    await server.stop()

    assert await _postgres(await server.start(), "SELECT value FROM kept") == 7
    await server.stop()


async def test_postgres_starts_although_its_pid_file_names_a_living_process(postgres_state: Path) -> None:
    server = EmbeddedPostgres(postgres_state)
    await server.start()
    os.kill(server.pid, signal.SIGKILL)
    await server.stop()
    pid_file = postgres_state / "postgres" / "data" / "postmaster.pid"
    _, *rest = pid_file.read_text().splitlines(keepends=True)
    pid_file.write_text("".join([f"{psutil.Process().ppid()}\n", *rest]))

    await server.start()
    await server.stop()


async def test_postgres_answers_on_its_unix_socket(postgres_state: Path) -> None:
    server = EmbeddedPostgres(postgres_state)
    await server.start()

    assert await _postgres(server.socket_url, "SELECT inet_client_addr() IS NULL")
    await server.stop()


async def test_postgres_on_tcp_wants_the_password(postgres_state: Path) -> None:
    server = EmbeddedPostgres(postgres_state)
    url = await server.start()

    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(url, password="guess")
    await server.stop()


async def test_postgres_syncs_to_disk_and_can_time_transactions_out(postgres_state: Path) -> None:
    server = EmbeddedPostgres(postgres_state)
    url = await server.start()

    assert await _postgres(url, "SELECT current_setting('fsync')") == "on"
    assert await _postgres(url, "SELECT current_setting('transaction_timeout')") == "0"
    await server.stop()


async def test_redis_continues_after_it_was_killed(tmp_state: Path) -> None:
    server = EmbeddedRedis(tmp_state)
    async with Redis.from_url(await server.start()) as redis:
        await redis.set("kept", "7")
    os.kill(server.pid, signal.SIGKILL)
    await server.stop()

    async with Redis.from_url(await server.start()) as redis:
        assert await redis.get("kept") == b"7"
    await server.stop()


async def test_redis_opens_what_an_older_one_has_left(tmp_state: Path) -> None:
    """The file is Redis 6.2's: one key in its binary head, the others in commands that follow."""
    server = EmbeddedRedis(tmp_state)
    server.directory.mkdir()
    shutil.copy(Path(__file__).with_name("redis_6_2.aof"), server.directory / "appendonly.aof")

    for _ in range(2):
        async with Redis.from_url(await server.start()) as redis:
            assert await redis.get("counter") == b"42"
            assert await redis.hgetall("hash") == {b"field": b"value"}
            assert await redis.zscore("z", "m") == 1.5
            assert await redis.pttl("limit") > 0
        await server.stop()


async def test_etcd_continues_after_it_was_killed(tmp_state: Path) -> None:
    server = EmbeddedEtcd(tmp_state)
    written = await _etcd_revision_after_put(await server.start())
    os.kill(server.pid, signal.SIGKILL)
    await server.stop()

    assert await _etcd_revision_after_put(await server.start()) == written + 1
    await server.stop()


PRIVATE: list[type[EmbeddedEtcd] | type[EmbeddedRedis]] = [EmbeddedEtcd, EmbeddedRedis]
every_private = pytest.mark.parametrize("private", PRIVATE, ids=lambda kind: kind.name)


@every_private
async def test_a_private_server_listens_on_no_port_and_only_its_user_may_enter_the_socket(
    private: type[EmbeddedEtcd] | type[EmbeddedRedis], tmp_state: Path
) -> None:
    server = private(tmp_state, private=True)
    url = await server.start()
    connections = psutil.Process(server.pid).net_connections("tcp")
    assert [one for one in connections if one.status == psutil.CONN_LISTEN] == []
    socket_path = Path(url.removeprefix("unix:"))
    assert stat.S_ISSOCK(os.stat(socket_path).st_mode)
    assert os.stat(socket_path.parent).st_mode & 0o077 == 0
    await server.stop()


@every_private
async def test_a_private_server_that_was_killed_is_back_at_its_address(
    private: type[EmbeddedEtcd] | type[EmbeddedRedis], tmp_state: Path
) -> None:
    server = private(tmp_state, private=True)
    url = await server.start()
    os.kill(server.pid, signal.SIGKILL)
    await eventually(lambda: server.ended, what="the end")
    assert server.how_it_ended() == "ended with status -9"
    await server.stop()
    assert not server.ended
    assert await server.start() == url
    await server.stop()


async def test_etcd_goes_private_with_the_data_that_an_open_one_has_left(tmp_state: Path) -> None:
    server = EmbeddedEtcd(tmp_state)
    written = await _etcd_revision_after_put(await server.start())
    await server.stop()

    server = EmbeddedEtcd(tmp_state, private=True)
    client = Etcd.at(await server.start())
    found = await client.get(b"key")
    assert found is not None
    assert found.mod_revision == written
    await client.close()
    await server.stop()


async def test_a_watchdog_reaches_a_private_etcd(tmp_state: Path) -> None:
    server = EmbeddedEtcd(tmp_state, private=True)
    endpoint = await server.start()
    gateway = Gateway(endpoint, {"username": "", "password": "", "ca": "", "certificate": "", "key": ""})
    await asyncio.to_thread(gateway.put, "key", "value", 60)
    client = Etcd.at(endpoint)
    found = await client.get(b"key")
    assert found is not None
    assert found.value == b"value"
    await client.close()
    await server.stop()


async def test_a_redis_in_a_long_path_has_its_socket_elsewhere_in_a_folder_of_ours(tmp_state: Path) -> None:
    server = EmbeddedRedis(tmp_state / ("long" * 30), private=True)
    async with Redis.from_url(await server.start()) as redis:
        assert await redis.set("kept", "7")
    folder = Path(server.url.removeprefix("unix:")).parent
    assert folder.name.startswith(f"sessionmesh-{os.geteuid()}-")
    assert folder.stat().st_mode & 0o077 == 0
    await server.stop()
    shutil.rmtree(folder)


async def test_a_kept_server_that_is_killed_comes_back_with_its_data(tmp_state: Path) -> None:
    server = EmbeddedRedis(tmp_state, private=True)
    said: list[str] = []
    async with Redis.from_url(await server.start()) as redis:
        await redis.set("kept", "7")
        keeping = asyncio.create_task(keep_running(server, said.append), name="keep")
        os.kill(server.pid, signal.SIGKILL)
        await eventually(lambda: len(said) == 2, what="its return")
        assert await redis.get("kept") == b"7"
    keeping.cancel()
    await asyncio.wait([keeping])
    await server.stop()


@pytest.fixture
def state(kind: type[EmbeddedServer], request: pytest.FixtureRequest) -> Path:
    """A state directory for a server of `kind`."""
    wanted = "postgres_state" if kind is EmbeddedPostgres else "tmp_state"
    return cast(Path, request.getfixturevalue(wanted))


@every_server
async def test_a_directory_in_use_is_refused_and_its_holder_named(
    kind: type[EmbeddedServer], state: Path
) -> None:
    first = kind(state)
    await first.start()

    with pytest.raises(StateInUse, match=f"in use by another running mesh: process {os.getpid()}, since 20"):
        await kind(state).start()

    assert first.running
    await first.stop()


@every_server
async def test_a_stopped_server_releases_its_directory(kind: type[EmbeddedServer], state: Path) -> None:
    first, second = kind(state), kind(state)
    await first.start()
    await first.stop()

    await second.start()
    await second.stop()


@every_server
async def test_a_server_whose_port_was_taken_meanwhile_gets_another(
    kind: type[EmbeddedServer], state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server((LOOPBACK, 0)) as stranger:
        taken = stranger.getsockname()[1]
        choices = chain([taken], iter(free_port, None))
        monkeypatch.setattr(ports, "free_port", lambda: next(choices))
        server = kind(state)
        url = await server.start()
        assert str(taken) not in url
    await server.stop()
    assert await server.start() == url
    await server.stop()


async def test_a_part_whose_port_was_taken_meanwhile_gets_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listens = "MESH_SIMULATOR_LISTEN"
    child = Child(ChildPlan("simulator", "mesh_simulator", {}, tmp_path / "log", other_address=listens))
    with socket.create_server((LOOPBACK, 0)) as stranger:
        taken = stranger.getsockname()[1]
        choices = chain([free_port(), free_port(), taken], iter(free_port, None))
        monkeypatch.setattr(ports, "free_port", lambda: next(choices))
        await child.start()
        assert str(taken) not in child.other_address
    await child.stop()


async def test_a_server_that_cannot_start_shows_its_log(tmp_state: Path) -> None:
    server = EmbeddedPostgres(tmp_state, {"shared_buffers": "nonsense"})

    with pytest.raises(ServerFailed, match="invalid value for parameter"):
        await server.start()

    assert not server.running


async def test_servers_end_with_an_owner_that_was_killed_and_start_again_at_once(tmp_state: Path) -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(tmp_state), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    processes = [psutil.Process(int(pid)) for pid in (await owner.stdout.readline()).split()]
    processes += [child for process in processes for child in process.children(recursive=True)]
    owner.kill()
    await owner.wait()

    for kind in SERVERS:
        server = kind(tmp_state)
        await server.start()
        await server.stop()

    await asyncio.to_thread(psutil.wait_procs, processes, timeout=10)
    assert not [process for process in processes if process.is_running()]


async def _postgres(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def _etcd_revision_after_put(endpoint: str) -> int:
    """Through etcd's JSON gateway: this test is of the server, not of our client."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"http://{endpoint}/v3/kv/put", json={"key": "a2V5", "value": "NQ=="}) as answer,
    ):
        return int((await answer.json())["header"]["revision"])
