"""The key that page tokens are signed with.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run_sql_file(__file__)


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
