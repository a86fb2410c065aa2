"""retention.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    run_sql_file(__file__)


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
