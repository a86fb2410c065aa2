"""media retention.

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    run_sql_file(__file__)


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
