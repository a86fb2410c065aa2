"""What session-nodes write: messages, sessions and events, through the journal.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_sql_file(__file__)


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
