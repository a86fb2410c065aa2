"""Webhook endpoints, deliveries and attempts.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run_sql_file(__file__)


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
