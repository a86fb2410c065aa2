"""Parts that would do harm beside what is there: each ends with 78, and the remedy as its last line."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing

import asyncpg
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from mesh_core.database import Database
from mesh_core.database.identity import ForeignDatabase
from mesh_core.errors import StartupError
from mesh_core.etcd import Etcd, follow
from mesh_core.etcd.discovery import ServiceInfo, register
from mesh_core.ids import new_uuid
from mesh_core.ownership.keys import ClusterKeys, NodeInfo, NodeState, encode
from mesh_core.process import surroundings
from mesh_core.process.service import service_version
from mesh_core.process.surroundings import UnfitNeighbour, check_neighbours, check_surroundings
from mesh_core.sealing import PostgresDataKeys, Sealer, WrongMasterKey, check_master_keys
from mesh_core.settings import DatabaseSettings, EtcdSettings, SecretsSettings
from mesh_core.tasks import Supervisor
from mesh_router.__main__ import OLDEST_SCHEMA
from tests.support.eventually import eventually
from tests.support.servers import patient_etcd_at
from tests.support.webhook_world import open_world

pytestmark = pytest.mark.asyncio(loop_scope="module")

PARTS = ("mesh_router", "mesh_session_node", "mesh_media", "mesh_webhook")


@pytest_asyncio.fixture(loop_scope="module")
async def client(etcd: str) -> AsyncIterator[Etcd]:
    opened = patient_etcd_at(etcd)
    yield opened
    await opened.close()


@pytest_asyncio.fixture(loop_scope="module")
async def database(postgres_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(DatabaseSettings(url=postgres_url))
    yield opened
    await opened.close()


def node(version: str) -> bytes:
    return encode(
        NodeInfo(
            id="node-1",
            incarnation="node-1-a",
            address="x:1",
            capacity=1,
            state=NodeState.ACTIVE,
            version=version,
        )
    )


async def test_no_part_starts_on_a_restored_database_that_is_not_adopted(
    postgres_url: str, etcd: str, cluster: str
) -> None:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("UPDATE cluster_identity SET system_identifier = 42")
    await connection.close()

    async def end(module: str, environment: dict[str, str]) -> tuple[str, int | None, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(60):
                _, said = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return module, process.returncode, said.decode().splitlines()[-1]

    async with open_world(postgres_url, etcd) as world:
        environment = {
            **world.environment,
            "MESH_CLUSTER_NAME": cluster,
            "MESH_OBJECTS_URL": "file:///nowhere-of-this-test",
        }
        ended = await asyncio.gather(*(end(module, environment) for module in PARTS))
    for module, code, last in ended:
        assert code == 78, (module, last)
        assert "mesh db adopt" in last, module


async def test_a_part_refuses_to_run_beside_a_release_that_is_too_far_away(
    client: Etcd, cluster: str
) -> None:
    await client.put(ClusterKeys(cluster).node("node-1"), node("0.3.1"))
    await check_neighbours(client, cluster, "0.4.0")
    with pytest.raises(UnfitNeighbour, match=r"release 0\.5\.0 cannot run beside node-1, .* release 0\.3\.1"):
        await check_neighbours(client, cluster, "0.5.0")


async def test_services_tell_their_release_too(client: Etcd, cluster: str) -> None:
    async with Supervisor(lambda _name, error: pytest.fail(repr(error))) as supervisor:
        info = ServiceInfo(id="m1", address="x:1", version="0.1.0")
        registration = await register(client, cluster, "media", info, supervisor=supervisor)
        with pytest.raises(UnfitNeighbour, match="beside media/m1"):
            await check_neighbours(client, cluster, "1.0.0")
        await registration.stop()
        await check_neighbours(client, cluster, "1.0.0")


async def test_a_part_that_is_listed_a_little_longer_than_it_lives_is_waited_for(
    client: Etcd, database: Database, cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings, "PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(surroundings, "service_version", lambda: "7.0.0")
    await client.put(ClusterKeys(cluster).node("node-1"), node("0.1.0"))
    with capture_logs() as logs:
        starting = asyncio.create_task(check_surroundings(database, client, cluster, OLDEST_SCHEMA))
        await eventually(lambda: logs)
        await client.delete(ClusterKeys(cluster).node("node-1"))
        await starting
    assert {entry["event"] for entry in logs} == {"not starting yet"}


async def test_a_foreign_database_is_refused_before_anything_else_is_looked_at(
    client: Etcd, database: Database, cluster: str
) -> None:
    await database.pool.execute("UPDATE cluster_identity SET system_identifier = 42")
    with pytest.raises(ForeignDatabase):
        await check_surroundings(database, client, cluster, OLDEST_SCHEMA)


async def sealed(database: Database, master_key: str) -> None:
    """A tenant whose data key that master key wraps."""
    tenant = new_uuid()
    await database.pool.execute(
        "INSERT INTO tenant (id, external_id) VALUES ($1, $2)", tenant, f"t-{tenant.hex}"
    )
    await Sealer(PostgresDataKeys(database), SecretsSettings(master_key=master_key)).load(tenant)


async def test_a_master_key_that_opens_nothing_is_refused(database: Database) -> None:
    old, new = (base64.b64encode(bytes([byte]) * 32).decode() for byte in (1, 2))
    await check_master_keys(database, SecretsSettings(master_key=new))  # nothing is sealed yet
    await sealed(database, old)
    with pytest.raises(WrongMasterKey, match="MESH_SECRETS_PREVIOUS_MASTER_KEYS"):
        await check_master_keys(database, SecretsSettings(master_key=new))
    await check_master_keys(database, SecretsSettings(master_key=new, previous_master_keys=(old,)))
    await sealed(database, new)
    with capture_logs() as logs:  # one tenant's key that is lost ends no other's sessions
        await check_master_keys(database, SecretsSettings(master_key=new))
    assert [(entry["tenants"], entry["of"]) for entry in logs] == [(1, 2)]


async def test_an_etcd_that_takes_no_such_user_and_a_database_that_ends_are_told_in_a_line(
    database: Database, client: Etcd, etcd: str, cluster: str, postgres_url: str
) -> None:
    stranger = Etcd(EtcdSettings(endpoints=(etcd,), username="nobody", password="of-nobody"))
    with pytest.raises(StartupError, match=r"etcd refused: .*authentication"):
        await check_surroundings(database, stranger, cluster, OLDEST_SCHEMA)
    await stranger.close()
    ended = await Database.open(DatabaseSettings(url=postgres_url))
    await ended.close()
    with pytest.raises(StartupError, match="the database cannot be used: pool is closed"):
        await check_surroundings(ended, client, cluster, OLDEST_SCHEMA)


async def test_an_etcd_that_is_away_is_no_reason_to_refuse(cluster: str) -> None:
    absent = Etcd.at("127.0.0.1:1")
    await check_neighbours(absent, cluster, service_version())
    await absent.close()


async def test_a_part_that_waits_for_etcd_says_so_once(cluster: str) -> None:
    absent = Etcd.at("127.0.0.1:1")
    async with aclosing(follow(absent, f"/{cluster}/".encode())) as changes:
        with capture_logs() as logs:
            waiting = asyncio.create_task(anext(changes))
            await eventually(lambda: logs)
            waiting.cancel()
            await asyncio.wait([waiting])
    assert [entry["event"] for entry in logs] == ["waiting for etcd"]
    await absent.close()
