"""`mesh db` and the keys that data are sealed with."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

import pytest
from asyncpg.pgproto.pgproto import UUID
from typer.testing import CliRunner, Result

from mesh_cli.__main__ import app
from mesh_core import ids
from mesh_core.database import Database
from mesh_core.ids import Prefix
from mesh_core.sealing import PostgresDataKeys, Sealer
from mesh_core.settings import DatabaseSettings, SecretsSettings

OLD, NEW, OTHER = (base64.b64encode(letter * 32).decode() for letter in (b"a", b"b", b"c"))


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    database = await Database.open(DatabaseSettings(url=postgres_url, pool_size=2))
    yield database
    await database.close()


@pytest.fixture
async def tenants(database: Database) -> list[UUID]:
    """Two, with a data key each under the old master key."""
    made = [ids.new_uuid(), ids.new_uuid()]
    for tenant in made:
        await database.pool.execute("INSERT INTO tenant (id) VALUES ($1)", tenant)
        await sealer(database, OLD).load(tenant)
    return made


def sealer(database: Database, master: str, *previous: str) -> Sealer:
    settings = SecretsSettings(master_key=master, previous_master_keys=previous)
    return Sealer(PostgresDataKeys(database), settings)


async def mesh_db(url: str, *command: str, master: str = OLD, previous: str = "") -> Result:
    environment = {
        "MESH_DATABASE_URL": url,
        "MESH_SECRETS_MASTER_KEY": master,
        "MESH_SECRETS_PREVIOUS_MASTER_KEYS": previous,
    }
    return await asyncio.to_thread(CliRunner().invoke, app, ["db", *command], env=environment)


async def test_after_rewrapping_the_new_master_key_opens_everything_alone(
    database: Database, tenants: list[UUID], postgres_url: str
) -> None:
    before = sealer(database, OLD)
    await before.load(tenants[0])
    blob = before.seal(tenants[0], b"credentials")
    ended = await mesh_db(postgres_url, "rewrap-keys", master=NEW, previous=OLD)
    assert (ended.exit_code, ended.stdout) == (0, "2 data keys had another master key.\n")
    assert await sealer(database, NEW).open(tenants[0], blob) == b"credentials"
    again = await mesh_db(postgres_url, "rewrap-keys", master=NEW)
    assert (again.exit_code, again.stdout) == (0, "0 data keys had another master key.\n")


@pytest.mark.usefixtures("tenants")
async def test_keys_of_a_master_key_that_is_not_given_are_left_and_named(postgres_url: str) -> None:
    ended = await mesh_db(postgres_url, "rewrap-keys", master=OTHER)
    assert ended.exit_code == 1
    assert "needs a master key that is not set" in ended.stderr


async def test_a_rotated_tenant_seals_with_a_new_key_and_opens_what_was_before(
    database: Database, tenants: list[UUID], postgres_url: str
) -> None:
    before = sealer(database, OLD)
    await before.load(tenants[0])
    blob = before.seal(tenants[0], b"credentials")
    ended = await mesh_db(postgres_url, "rotate-key", ids.encode(Prefix.TENANT, tenants[0]))
    assert (ended.exit_code, ended.stdout) == (0, "The tenant's data key is version 2 now.\n")
    after = sealer(database, OLD)
    assert await after.open(tenants[0], blob) == b"credentials"
    assert after.seal(tenants[0], b"more")[1:5] == (2).to_bytes(4, "big")


@pytest.mark.parametrize(
    ("tenant", "problem"),
    [("ten_x", "tenant"), (ids.new_id(Prefix.TENANT), "does not exist")],
    ids=["malformed", "unknown"],
)
async def test_no_key_is_made_for_what_is_no_tenant(postgres_url: str, tenant: str, problem: str) -> None:
    ended = await mesh_db(postgres_url, "rotate-key", tenant)
    assert ended.exit_code == 1
    assert problem in ended.stderr


@pytest.mark.usefixtures("database")
async def test_a_database_is_adopted_once_and_a_late_resend_is_refused(postgres_url: str) -> None:
    first = await mesh_db(postgres_url, "adopt", "--restored")
    assert (first.exit_code, first.stdout) == (0, "The database is adopted, under generation 2.\n")
    again = await mesh_db(postgres_url, "adopt", "--restored")
    assert again.exit_code == 0
    assert "nothing is changed" in again.stdout
    late = await mesh_db(postgres_url, "adopt", "--restored", "--resend")
    assert late.exit_code != 0
    assert "leave it out" in late.stderr
