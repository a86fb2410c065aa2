"""A state directory that release 0.1.0 has left is taken over with everything in it.

`state_0_1_0/` is what that release had stored of one paired account: its rows, its secrets, and the files of
the simulated network. The rest of the directory is made here, with the names that it had then.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from mesh_cli.embedded import EmbeddedPostgres
from mesh_core.database import migrations
from sessionmesh.v1 import account_pb2
from tests.support.mesh_api import Caller, open_caller, text_message
from tests.support.mesh_process import MeshProcess

STORED = Path(__file__).with_name("state_0_1_0")
REDIS_FILE = Path(__file__).parents[1] / "integration" / "redis_6_2.aof"
SCHEMA = "0006"
ADMIN_KEY = "smadmin_F-wcrwNilv8oDddfjcZtz4_FivvYaeA9gFjcb6vYK-A"
API_KEY = "smk_01M8J7XA8GFSP883065V3STWCT_4HCzFRFszyyR2ypoOAcF81TlhxUxmeC3_prWjeaVTV0"
ACCOUNT_ID = "acc_01M8J7XAC2EN9B7SAFN6WA2HK5"
PHONE = "+4917228845342"


@pytest.fixture
async def old_mesh(tmp_state: Path) -> AsyncIterator[MeshProcess]:
    """A mesh on the directory; not started. Its servers are embedded ones, as then."""
    state = tmp_state / "state"
    shutil.copytree(STORED / "network", state / "network")
    shutil.copy(STORED / "secrets.json", state)
    for name in ("logs", "objects", "etcd", "postgres", "redis"):
        (state / name).mkdir()
    (state / "mesh.lock").touch()
    for server in ("etcd", "postgres", "redis"):
        (state / server / "owner.lock").touch()
        (state / server / "server.lock").touch()
    shutil.copy(REDIS_FILE, state / "redis" / "appendonly.aof")
    await _fill_database(state)
    own = MeshProcess(state, nodes=1)
    yield own
    own.ensure_gone()


async def test_it_opens_and_keeps_its_data(old_mesh: MeshProcess) -> None:
    mesh = old_mesh.start()
    assert mesh.admin_key == ADMIN_KEY
    async with open_caller(mesh.address, mesh.admin_key) as admin:
        customer = Caller(admin.channel, (("authorization", f"Bearer {API_KEY}"),))
        request = account_pb2.GetAccountRequest(account_id=ACCOUNT_ID)
        account = (await customer(customer.accounts.GetAccount, request)).account
        assert account.phone == PHONE
        await customer.until_online(ACCOUNT_ID)  # with its credential: nobody pairs it
        message = await customer.send(text_message(ACCOUNT_ID))
        await customer.until_delivered(ACCOUNT_ID, message.id)
    async with Redis.from_url(mesh.servers["MESH_REDIS_URL"]) as redis:
        assert await redis.get("counter") == b"42"
    assert old_mesh.stop().code == 0, old_mesh.report()


async def _fill_database(state: Path) -> None:
    server = EmbeddedPostgres(state)
    connection = await asyncpg.connect(await server.start())
    try:
        await connection.execute(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL,"
            " CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
        for path in sorted((Path(migrations.__file__).parent / "versions").glob("*.sql")):
            if path.name <= SCHEMA + "~":
                await connection.execute(path.read_text())
        await connection.execute(f"INSERT INTO alembic_version (version_num) VALUES ('{SCHEMA}')")
        await connection.execute((STORED / "database.sql").read_text())
    finally:
        await connection.close()
        await server.stop()
