"""media stores.

Revision ID: 0015
Revises: 0014
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    run_sql_file(__file__)


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
