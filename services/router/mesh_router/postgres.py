"""What a background task survives of Postgres: it tries again later."""

from __future__ import annotations

import asyncpg

AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""Postgres does not answer, or not well. Time-outs are among them."""
