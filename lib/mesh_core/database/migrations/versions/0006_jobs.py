"""Long jobs, and the counts of accounts.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_sql_file(__file__)


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
