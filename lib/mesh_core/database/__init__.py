"""Postgres: the pool, the schema and what several services write in the same way."""

from mesh_core.database.identity import ForeignDatabase, adopt, check_identity
from mesh_core.database.migrations import SchemaMismatch, check_schema, migrate, newest_schema, schema_version
from mesh_core.database.pool import Database, UnsupportedServer
from mesh_core.database.unavailable import REFUSALS, UNAVAILABLE

__all__ = [
    "REFUSALS",
    "UNAVAILABLE",
    "Database",
    "ForeignDatabase",
    "SchemaMismatch",
    "UnsupportedServer",
    "adopt",
    "check_identity",
    "check_schema",
    "migrate",
    "newest_schema",
    "schema_version",
]
