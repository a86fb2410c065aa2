"""${message}

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
"""

from __future__ import annotations

from mesh_core.database.migrations.sql_file import run_sql_file

revision = "${up_revision}"
down_revision = "${down_revision}"


def upgrade() -> None:
    run_sql_file(__file__)  # the file of the same name that ends with .sql


def downgrade() -> None:
    raise NotImplementedError("there is no way down: restore a backup")
