"""Calls that wait to be noted while Postgres is away: a tenant with many leaves others their room."""

from __future__ import annotations

from typing import Any

import pytest
from asyncpg.pgproto.pgproto import UUID

from mesh_core.ids import new_uuid
from mesh_core.rpc.audit import AuditLog, AuditRecord
from mesh_core.rpc.audit import log as audit_log

NOISY, QUIET = new_uuid(), new_uuid()


class Postgres:
    """What the log writes to; `away`: it answers nothing."""

    def __init__(self) -> None:
        self.away = True
        self.noted: list[UUID] = []

    async def execute(self, _statement: str, *columns: Any) -> None:
        if self.away:
            raise ConnectionRefusedError
        self.noted += columns[2]  # the tenants


def call(tenant: UUID) -> AuditRecord:
    empty: Any = ""
    return AuditRecord(
        new_uuid(), tenant, None, empty, "/method", empty, empty, 0, b"", empty, empty, empty, empty
    )


@pytest.fixture
def postgres() -> Postgres:
    return Postgres()


@pytest.fixture
def log(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> AuditLog:
    monkeypatch.setattr(audit_log, "ROOM", 100)
    pool: Any = postgres
    return AuditLog(pool)


async def test_the_calls_of_a_tenant_are_noted_whatever_another_floods(
    log: AuditLog, postgres: Postgres
) -> None:
    for _ in range(1_000):
        log.add(call(NOISY))
    for _ in range(25):
        log.add(call(QUIET))
    postgres.away = False

    await log.close()

    assert (postgres.noted.count(NOISY), postgres.noted.count(QUIET)) == (50, 25)


async def test_what_is_written_leaves_room_again(log: AuditLog, postgres: Postgres) -> None:
    postgres.away = False
    for _ in range(3):
        for _ in range(50):
            log.add(call(NOISY))
        await log.close()

    assert postgres.noted.count(NOISY) == 150
