"""Which errors mean that the database is unavailable for now, and which that a statement is wrong."""

from __future__ import annotations

import socket

import asyncpg
import pytest

from mesh_core.database import REFUSALS, UNAVAILABLE


def answered(sqlstate: str) -> Exception:
    """What asyncpg raises when the server answers with this SQLSTATE."""
    error: Exception = asyncpg.PostgresError.new({"C": sqlstate, "M": "from the server"})
    return error


@pytest.mark.parametrize(
    "sqlstate",
    [
        pytest.param("08003", id="connection does not exist"),
        pytest.param("08006", id="connection failure"),
        pytest.param("08P01", id="PgBouncer has no connection left"),
        pytest.param("25006", id="read-only after a failover"),
        pytest.param("25P03", id="idle in transaction for too long"),
        pytest.param("25P04", id="transaction took too long"),
        pytest.param("40001", id="serialization failure"),
        pytest.param("40P01", id="deadlock"),
        pytest.param("53100", id="disk full"),
        pytest.param("53200", id="out of memory"),
        pytest.param("53300", id="too many connections"),
        pytest.param("55P03", id="lock not available"),
        pytest.param("57014", id="statement timeout"),
        pytest.param("57P01", id="shutting down"),
        pytest.param("57P02", id="another server process crashed"),
        pytest.param("57P03", id="starting"),
        pytest.param("58030", id="disk failure of the server"),
    ],
)
def test_what_the_server_may_do_later_is_unavailable(sqlstate: str) -> None:
    assert isinstance(answered(sqlstate), REFUSALS)
    assert isinstance(answered(sqlstate), UNAVAILABLE)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.InternalClientError("unexpected protocol state"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        ConnectionRefusedError("nobody listens"),
        ConnectionResetError("the server is gone"),
        FileNotFoundError("no such socket"),
        OSError("Multiple exceptions: one per address of the host"),
        socket.gaierror("name not known"),
        TimeoutError("no answer in time"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_server_that_cannot_be_reached_is_unavailable(error: Exception) -> None:
    assert isinstance(error, UNAVAILABLE)


@pytest.mark.parametrize(
    "sqlstate",
    [
        pytest.param("0A000", id="feature not supported"),
        pytest.param("22001", id="text too long"),
        pytest.param("22P05", id="character without a place in the encoding"),
        pytest.param("23505", id="unique violation"),
        pytest.param("25P02", id="statement in a failed transaction"),
        pytest.param("28P01", id="wrong password"),
        pytest.param("3D000", id="no such database"),
        pytest.param("42601", id="syntax error"),
        pytest.param("42P01", id="no such table"),
        pytest.param("42501", id="not allowed"),
        pytest.param("P0001", id="raised by a function"),
        pytest.param("SM001", id="raised by one of ours"),
        pytest.param("XX000", id="internal error"),
    ],
)
def test_a_statement_that_can_never_succeed_is_not(sqlstate: str) -> None:
    assert not isinstance(answered(sqlstate), UNAVAILABLE)


def test_an_argument_that_asyncpg_cannot_encode_is_not() -> None:
    assert not isinstance(asyncpg.DataError("invalid input for query argument $1"), UNAVAILABLE)
