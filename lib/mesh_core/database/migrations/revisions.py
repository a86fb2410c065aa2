"""Alembic revisions made from the SQL files: the file's number is the revision, the number before it its
parent.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from alembic.runtime.migration import MigrationStep
    from alembic.script.base import Script
    from sqlalchemy import Connection

_FOLDER = Path(__file__).with_name("sql")


def revision_files() -> dict[str, Path]:
    """`{"0001": .../0001_core.sql}`, in order."""
    return {path.name.partition("_")[0]: path for path in sorted(_FOLDER.glob("*.sql"))}


def pending(current: str | None) -> list[MigrationStep]:
    """The steps from revision `current` (None: an empty database) to the last one, the next one first."""
    from alembic.runtime.migration import MigrationStep
    from alembic.script.base import Script
    from alembic.script.revision import RevisionMap

    revisions = RevisionMap(_scripts)
    later = list(revisions.iterate_revisions("head", current or "base"))
    return [
        MigrationStep.upgrade_from_script(revisions, script)
        for script in reversed(later)
        if isinstance(script, Script)
    ]


def _scripts() -> Iterator[Script]:
    from alembic.script.base import Script

    parent = None
    for revision, path in revision_files().items():
        module = ModuleType(path.stem, path.stem)
        module.__dict__.update(down_revision=parent, upgrade=partial(_run, path))
        yield Script(module, revision, path)
        parent = revision


def _run(path: Path, connection: Connection) -> None:
    """Runs the file as it is: SQLAlchemy's own execution would prepare it, which takes a single statement."""
    sql = path.read_text(encoding="utf-8")

    async def execute(driver: asyncpg.Connection) -> None:
        await driver.execute(sql)

    adapter = connection.connection.dbapi_connection
    adapter.run_async(execute)  # type: ignore[union-attr]  # SQLAlchemy types it as any DBAPI connection
