"""Who owns a shard, as Postgres sees it: fences and incarnations.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run_sql_file(__file__)


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
