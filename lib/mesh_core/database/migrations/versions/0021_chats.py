"""chats.

Revision ID: 0021
Revises: 0020
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    run_sql_file(__file__)


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
