"""sessions_and_journal.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    run_sql_file(__file__)


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
