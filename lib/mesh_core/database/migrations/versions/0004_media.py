"""Media, and the objects that hold their bytes.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run_sql_file(__file__)


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
