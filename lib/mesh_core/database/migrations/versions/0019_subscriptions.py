"""named subscriptions, and replays.

Revision ID: 0019
Revises: 0018
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    run_sql_file(__file__)


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
