"""The schema's chain of revisions against a real Postgres."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from alembic.script import ScriptDirectory

from mesh_core.database import Database, migrations
from mesh_core.database.migrations import (
    MigrationFailed,
    SchemaMismatch,
    check_schema,
    migrate,
    newest_schema,
    schema_version,
)
from mesh_core.errors import StartupError
from mesh_core.settings import DatabaseSettings
from tests.support.eventually import eventually

pytestmark = pytest.mark.slow

CLOSED_PORT = 1
ROOT = Path(__file__).parents[2]
VERSIONS = ROOT / "lib/mesh_core/database/migrations/versions"
OF_TODAY = [f"{number:04}" for number in range(1, newest_schema() + 1)]


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def version_of(url: str) -> int:
    database = await Database.open(DatabaseSettings(url=url))
    try:
        return await schema_version(database)
    finally:
        await database.close()


async def exists(url: str, table: str) -> bool:
    async with connected(url) as connection:
        return await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table) is True


@pytest.fixture
def revisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of revisions, in the place of ours."""
    monkeypatch.setattr(migrations, "VERSIONS", tmp_path)
    return tmp_path


def add_revision(folder: Path, number: int, name: str, sql: str, after: str = "") -> None:
    """Writes a revision like ours; its `upgrade` ends with the statement `after`."""
    parent = f"{number - 1:04}" if number > 1 else None
    (folder / f"{number:04}_{name}.sql").write_text(sql)
    (folder / f"{number:04}_{name}.py").write_text(
        "from mesh_core.database.migrations.sql_file import run_sql_file\n"
        f"revision = '{number:04}'\ndown_revision = {parent!r}\n"
        f"def upgrade() -> None:\n    run_sql_file(__file__)\n    {after}\n"
    )


# --- the chain


def test_revisions_are_numbered_without_a_gap_and_each_has_its_sql() -> None:
    scripts = list(ScriptDirectory(str(VERSIONS.parent)).walk_revisions())
    assert [script.revision for script in reversed(scripts)] == OF_TODAY
    assert all(Path(script.path).name.startswith(f"{script.revision}_") for script in scripts)
    assert {Path(script.path).stem for script in scripts} == {path.stem for path in VERSIONS.glob("*.sql")}


async def test_an_empty_database_gets_the_newest_schema(empty_database_url: str) -> None:
    assert await migrate(empty_database_url) == newest_schema()
    database = await Database.open(DatabaseSettings(url=empty_database_url))
    assert await schema_version(database) == newest_schema()
    await check_schema(database, 1)
    await database.close()


async def test_migrating_again_changes_nothing(postgres_url: str) -> None:
    assert await migrate(postgres_url) == newest_schema()


async def test_a_later_revision_is_applied_to_a_migrated_database(postgres_url: str, revisions: Path) -> None:
    shutil.copytree(VERSIONS, revisions, dirs_exist_ok=True)
    add_revision(revisions, len(OF_TODAY) + 1, "more", "CREATE TABLE more (); SELECT 1;")
    assert await migrate(postgres_url) == len(OF_TODAY) + 1
    assert await exists(postgres_url, "more")


async def make_as_release_0_1_0(url: str) -> None:
    """It made the version table and ran the files like this."""
    async with connected(url) as connection:
        await connection.execute(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL,"
            " CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
        for path in sorted(VERSIONS.glob("000[1-5]_*.sql")):
            await connection.execute(path.read_text())
        await connection.execute("INSERT INTO alembic_version (version_num) VALUES ('0005')")


async def test_a_database_of_the_release_before_without_data_is_migrated_on(empty_database_url: str) -> None:
    await make_as_release_0_1_0(empty_database_url)
    assert await migrate(empty_database_url) == newest_schema()
    assert await exists(empty_database_url, "job")


async def test_a_database_with_data_of_the_first_edition_is_refused_and_stays_as_it_is(
    empty_database_url: str,
) -> None:
    await make_as_release_0_1_0(empty_database_url)
    async with connected(empty_database_url) as connection:
        await connection.execute("INSERT INTO tenant (id) VALUES (gen_random_uuid())")
    with pytest.raises(SchemaMismatch, match="schema version 5 and data of the first edition of the API"):
        await migrate(empty_database_url)
    assert await version_of(empty_database_url) == 5
    database = await Database.open(DatabaseSettings(url=empty_database_url))
    try:
        with pytest.raises(SchemaMismatch, match="this program needs 8 or later"):
            await check_schema(database, 8)
    finally:
        await database.close()
    async with connected(empty_database_url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM tenant") == 1


# --- failures


async def test_a_revision_that_fails_half_way_leaves_the_version_before_it_and_says_so(
    empty_database_url: str, revisions: Path
) -> None:
    add_revision(revisions, 1, "good", "CREATE TABLE good ();")
    add_revision(revisions, 2, "bad", "CREATE TABLE half ();\n\nSELECT nonsense;\n")
    add_revision(revisions, 3, "later", "CREATE TABLE later ();")
    with pytest.raises(MigrationFailed) as raised:
        await migrate(empty_database_url)
    assert str(raised.value) == (
        "migration 0002_bad failed, the database stays at schema version 1: "
        'line 3: column "nonsense" does not exist (SQLSTATE 42703)'
    )
    assert await version_of(empty_database_url) == 1
    assert await exists(empty_database_url, "good")
    assert not await exists(empty_database_url, "half")
    assert not await exists(empty_database_url, "later")


async def test_a_corrected_revision_goes_on_where_the_failure_was(
    empty_database_url: str, revisions: Path
) -> None:
    add_revision(revisions, 1, "good", "CREATE TABLE good ();")
    add_revision(revisions, 2, "bad", "SELECT nonsense;")
    with pytest.raises(MigrationFailed):
        await migrate(empty_database_url)
    add_revision(revisions, 2, "bad", "CREATE TABLE corrected ();")
    assert await migrate(empty_database_url) == 2
    assert await exists(empty_database_url, "corrected")


async def test_the_first_revision_that_fails_leaves_the_database_empty(
    empty_database_url: str, revisions: Path
) -> None:
    add_revision(revisions, 1, "bad", "CREATE TABLE half (); SELECT nonsense;")
    with pytest.raises(MigrationFailed, match="stays at schema version 0"):
        await migrate(empty_database_url)
    assert await version_of(empty_database_url) == 0
    async with connected(empty_database_url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


@pytest.mark.parametrize("number", [1, 2])
async def test_what_the_file_did_is_undone_when_the_revision_fails_after_it(
    empty_database_url: str, revisions: Path, number: int
) -> None:
    for good in range(1, number):
        add_revision(revisions, good, "good", "CREATE TABLE good ();")
    add_revision(
        revisions, number, "bad", "CREATE TABLE half ();", after="raise LookupError('after the file')"
    )
    with pytest.raises(LookupError, match="after the file"):
        await migrate(empty_database_url)
    assert await version_of(empty_database_url) == number - 1
    assert not await exists(empty_database_url, "half")


async def test_a_migrator_whose_connection_ends_says_so(empty_database_url: str, revisions: Path) -> None:
    add_revision(
        revisions, 1, "cut", "CREATE TABLE half (); SELECT pg_terminate_backend(pg_backend_pid()); SELECT 1;"
    )
    with pytest.raises(MigrationFailed, match="0001_cut failed"):
        await migrate(empty_database_url)
    assert await version_of(empty_database_url) == 0


async def test_a_server_that_does_not_answer_or_refuses_is_told_in_a_sentence(
    empty_database_url: str,
) -> None:
    missing = urlsplit(empty_database_url)._replace(path="/no_such_database").geturl()
    with pytest.raises(StartupError, match='the database cannot be used: database "no_such_database"'):
        await migrate(missing)
    with pytest.raises(StartupError, match=r"the database cannot be used: .*[Cc]onnect"):
        await migrate(f"postgresql://nobody@127.0.0.1:{CLOSED_PORT}/none")


# --- several at once


async def migrate_in_a_process(url: str) -> None:
    await run("mesh_cli", "db", "migrate", url=url)


async def test_of_two_migrators_one_waits_until_the_other_has_ended(empty_database_url: str) -> None:
    async with connected(empty_database_url) as observer, connected(empty_database_url) as holder:

        async def both_wait() -> list[str] | None:
            """What the two migrators wait for."""
            rows = await observer.fetch(
                "SELECT wait_event FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock' ORDER BY 1"
            )
            return [row["wait_event"] for row in rows] if len(rows) == 2 else None

        await holder.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
        async with holder.transaction():
            await holder.execute("LOCK TABLE alembic_version")
            migrators = [asyncio.create_task(migrate_in_a_process(empty_database_url)) for _ in range(2)]
            assert await eventually(both_wait) == ["advisory", "relation"]
        await asyncio.gather(*migrators)
    assert await version_of(empty_database_url) == newest_schema()


async def test_a_process_does_one_migration_at_a_time(empty_database_url: str) -> None:
    first, second = await asyncio.gather(
        migrate(empty_database_url), migrate(empty_database_url), return_exceptions=True
    )
    assert first == newest_schema()
    assert isinstance(second, RuntimeError)


async def test_a_migrator_that_is_killed_lets_the_next_one_go_on(empty_database_url: str) -> None:
    async with connected(empty_database_url) as killed:
        await killed.execute("SELECT pg_advisory_lock(hashtext('sessionmesh migrations'))")
        migrator = asyncio.create_task(migrate(empty_database_url))
        async with connected(empty_database_url) as observer:
            held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

            async def waits() -> bool:
                return bool(await observer.fetchval(held))

            await eventually(waits)
        killed.terminate()
        assert await migrator == newest_schema()


# --- versions that do not fit


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
    async with connected(postgres_url) as connection:
        await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaMismatch, match="9999"):
        await migrate(postgres_url)


# --- Alembic's own commands, in a checkout


async def alembic(*arguments: str, url: str = "") -> str:
    return await run("alembic", *arguments, url=url)


async def run(module: str, *arguments: str, url: str = "") -> str:
    """What `python -m module` prints; AssertionError when it fails."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        *arguments,
        cwd=ROOT,
        env={**os.environ, "MESH_DATABASE_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def test_history_lists_every_revision_with_what_it_is_for() -> None:
    lines = (await alembic("history")).splitlines()
    assert [re.split(r" -> |[ ,]", line, maxsplit=2)[1] for line in reversed(lines)] == OF_TODAY
    assert lines[-1].startswith("<base> -> 0001, ")


async def test_upgrade_and_current_use_the_database_of_the_settings(empty_database_url: str) -> None:
    await alembic("upgrade", "0002", url=empty_database_url)
    assert await version_of(empty_database_url) == 2
    assert await alembic("current", url=empty_database_url) == "0002\n"
    assert await migrate(empty_database_url) == newest_schema()


async def test_sql_that_was_printed_offline_makes_the_same_schema(
    empty_database_url: str, postgres_url: str
) -> None:
    script = await alembic("upgrade", "head", "--sql")
    async with connected(empty_database_url) as connection:
        await connection.execute(script)
    assert await schema_of(empty_database_url) == await schema_of(postgres_url)
    assert await migrate(empty_database_url) == newest_schema()


async def schema_of(url: str) -> list[tuple[str, ...]]:
    """Every column, index and function of a database."""
    async with connected(url) as connection:
        rows = await connection.fetch("""
            SELECT table_name, column_name, data_type, coalesce(column_default, '')
              FROM information_schema.columns WHERE table_schema = 'public'
            UNION ALL SELECT tablename, indexname, indexdef, '' FROM pg_indexes WHERE schemaname = 'public'
            UNION ALL SELECT proname, '', prosrc, '' FROM pg_proc WHERE pronamespace = 'public'::regnamespace
            ORDER BY 1, 2, 3""")
        return [tuple(row) for row in rows]


async def test_there_is_no_way_down(postgres_url: str) -> None:
    with pytest.raises(AssertionError, match="there is no way down"):
        await alembic("downgrade", "-1", url=postgres_url)
    assert await version_of(postgres_url) == newest_schema()
