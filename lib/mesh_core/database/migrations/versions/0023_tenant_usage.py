"""tenant usage.

Revision ID: 0023
Revises: 0022
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    run_sql_file(__file__)


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
