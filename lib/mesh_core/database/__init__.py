"""Postgres: the pool, and what several services write in the same way. The schema is in `migrations`."""

from mesh_core.database.identity import Adopted, ForeignDatabase, adopt, check_identity
from mesh_core.database.pool import Database, UnsupportedServer
from mesh_core.database.unavailable import DATABASE_ERRORS, REFUSALS, UNAVAILABLE

__all__ = [
    "DATABASE_ERRORS",
    "REFUSALS",
    "UNAVAILABLE",
    "Adopted",
    "Database",
    "ForeignDatabase",
    "UnsupportedServer",
    "adopt",
    "check_identity",
]
