"""A state directory that release 0.1.0 has left is refused, and stays as it is: its data are of the first
edition of the API.

`state_0_1_0/` is what that release had stored of one paired account: its rows, its secrets, and the files of
the simulated network. The rest of the directory is made here, with the names that it had then.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from mesh_cli.embedded import EmbeddedPostgres
from mesh_core.database import migrations
from tests.support.mesh_process import START_SECONDS, MeshProcess

STORED = Path(__file__).with_name("state_0_1_0")
REDIS_FILE = Path(__file__).parents[1] / "integration" / "redis_6_2.aof"
SCHEMA = "0006"


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


async def test_it_is_refused_with_what_to_do_and_keeps_its_data(old_mesh: MeshProcess) -> None:
    before = await _stored(old_mesh.state)
    old_mesh.launch()
    assert old_mesh.process.wait(START_SECONDS) == os.EX_UNAVAILABLE, old_mesh.report()
    assert f"schema version {int(SCHEMA)} and data of the first edition of the API" in " ".join(
        old_mesh.output.split()
    )
    assert await _stored(old_mesh.state) == before
    assert before[0] == SCHEMA
    assert before[1] > 0


async def _stored(state: Path) -> tuple[str, int]:
    """The database's schema version, and how many accounts it has."""
    server = EmbeddedPostgres(state)
    connection = await asyncpg.connect(await server.start())
    try:
        version = await connection.fetchval("SELECT version_num FROM alembic_version")
        return version, await connection.fetchval("SELECT count(*) FROM account")
    finally:
        await connection.close()
        await server.stop()


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
