"""driver rows.

Revision ID: 0017
Revises: 0015
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    run_sql_file(__file__)


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
