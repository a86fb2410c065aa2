"""receipt parts.

Revision ID: 0022
Revises: 0021
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    run_sql_file(__file__)


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
