"""What the second edition of the API stores.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    run_sql_file(__file__)


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
