"""webhook_shares.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    run_sql_file(__file__)


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
