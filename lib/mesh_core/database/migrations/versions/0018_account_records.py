"""account records.

Revision ID: 0018
Revises: 0017
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    run_sql_file(__file__)


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
