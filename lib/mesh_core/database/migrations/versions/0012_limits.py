"""limits.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    run_sql_file(__file__)


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
