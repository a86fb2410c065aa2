"""Tenants, API keys, accounts, and request ids.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    run_sql_file(__file__)


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
