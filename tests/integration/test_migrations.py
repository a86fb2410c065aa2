"""The schema's chain of SQL files against a real Postgres."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from mesh_core.database import Database
from mesh_core.database.migrations import (
    SchemaMismatch,
    check_schema,
    migrate,
    newest_schema,
    revisions,
    schema_version,
)
from mesh_core.settings import DatabaseSettings


async def test_an_empty_database_gets_the_newest_schema(empty_database_url: str) -> None:
    assert await migrate(empty_database_url) == newest_schema()
    database = await Database.open(DatabaseSettings(url=empty_database_url))
    assert await schema_version(database) == newest_schema()
    await check_schema(database, 1)
    await database.close()


async def test_several_may_migrate_at_once(empty_database_url: str) -> None:
    versions = await asyncio.gather(*[migrate(empty_database_url) for _ in range(4)])
    assert versions == [newest_schema()] * 4


async def test_migrating_again_changes_nothing(postgres_url: str) -> None:
    assert await migrate(postgres_url) == newest_schema()


async def test_a_later_file_is_applied_to_a_migrated_database(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for path in revisions.revision_files().values():
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / f"{newest_schema() + 1:04}_more.sql").write_text("CREATE TABLE more (); SELECT 1;")
    monkeypatch.setattr(revisions, "_FOLDER", tmp_path)
    assert await migrate(postgres_url) == newest_schema()
    connection = await asyncpg.connect(postgres_url)
    assert await connection.fetchval("SELECT to_regclass('more')") == "more"
    await connection.close()


async def test_a_file_that_fails_leaves_nothing_behind(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "0001_good.sql").write_text("CREATE TABLE good ();")
    (tmp_path / "0002_bad.sql").write_text("CREATE TABLE half (); SELECT nonsense;")
    monkeypatch.setattr(revisions, "_FOLDER", tmp_path)
    with pytest.raises(asyncpg.UndefinedColumnError):
        await migrate(empty_database_url)
    connection = await asyncpg.connect(empty_database_url)
    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    await connection.close()


async def test_a_program_refuses_a_schema_outside_its_range(empty_database_url: str) -> None:
    database = await Database.open(DatabaseSettings(url=empty_database_url))
    assert await schema_version(database) == 0
    with pytest.raises(SchemaMismatch, match="run `mesh db migrate`"):
        await check_schema(database, 1)
    await migrate(empty_database_url)
    with pytest.raises(SchemaMismatch, match="upgrade it"):
        await check_schema(database, 1, newest_schema() - 1)
    await database.close()


async def test_a_database_of_a_newer_release_is_left_alone(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    await connection.close()
    with pytest.raises(SchemaMismatch, match="9999"):
        await migrate(postgres_url)
