"""Which errors mean that the database is unavailable, so that the same statement may succeed later."""

from __future__ import annotations

import asyncpg

REFUSALS: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError,  # class 08: the connection was lost, or PgBouncer has no server for it
    asyncpg.InsufficientResourcesError,  # class 53: too many connections, out of memory, disk full
    asyncpg.OperatorInterventionError,  # class 57: starting, shutting down, crashed, statement cancelled
    asyncpg.PostgresSystemError,  # class 58: the server's own files or devices fail
    asyncpg.TransactionRollbackError,  # class 40: a deadlock, or rows that somebody else changed meanwhile
    asyncpg.LockNotAvailableError,  # `lock_timeout`
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,  # a former primary after a failover
    asyncpg.InterfaceError,  # the connection or its pool is closed
    asyncpg.InternalClientError,  # a connection that broke in the middle of an answer
)
"""What asyncpg raises when the server is unavailable or refuses for now.

Statements that can never succeed are not among them: wrong data (class 22), violated constraints (23),
missing tables or rights and syntax errors (42), a wrong password (28).
"""

UNAVAILABLE: tuple[type[Exception], ...] = (*REFUSALS, OSError)
"""The database is unavailable: `REFUSALS`, and what sockets raise, time-outs included.

`except UNAVAILABLE` is for work that tries again later. A write's outcome is unknown then.
"""

DATABASE_ERRORS: tuple[type[Exception], ...] = (asyncpg.PostgresError, *UNAVAILABLE)
"""Everything that a statement may raise, statements that can never succeed among them: to report it, or to
drop the connection.
"""
