"""What goes on by itself in a node outlives a database that is unavailable."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from unittest.mock import AsyncMock, MagicMock

import asyncpg
import pytest

from mesh_core.ids import new_uuid
from mesh_session_node.drivers.interface.content import network_id_of
from mesh_session_node.drivers.interface.outcomes import Receipt
from mesh_session_node.drivers.memory.driver import MemoryDriver
from mesh_session_node.node import maintenance
from mesh_session_node.outbound import receipts
from mesh_session_node.outbound.receipts import LateReceipts, ReceiptAcks
from tests.support.eventually import eventually

FAILURES = [
    asyncpg.InterfaceError("connection is closed"),
    asyncpg.PostgresConnectionError("lost"),
    ConnectionRefusedError(),
    TimeoutError(),
]


@pytest.fixture(params=FAILURES, ids=lambda error: type(error).__name__)
def failure(request: pytest.FixtureRequest) -> Exception:
    return cast("Exception", request.param)


def receipt_target() -> MagicMock:
    """An account that messages were sent from."""
    target = MagicMock()
    target.context.closed = False
    target.context.driver = MemoryDriver()
    return target


async def test_late_receipts_are_looked_up_again(failure: Exception, monkeypatch: Any) -> None:
    monkeypatch.setattr(receipts, "_RETRY_DELAY", 0.0)
    message = new_uuid()
    row = {"id": message, "network_id": "ID", "chat": "phone:+1", "content": b"", "traceparent": ""}
    queries = MagicMock(messages=AsyncMock(side_effect=[failure, [row]]))
    target = receipt_target()
    late = LateReceipts(queries)
    late.add(target, network_id_of(message), Receipt.DELIVERED, 1)
    running = asyncio.create_task(late.run())
    try:
        await eventually(lambda: target.receipted.called)
        assert not running.done()
    finally:
        running.cancel()


async def test_many_late_receipts_of_one_account_are_looked_up_in_parts(monkeypatch: Any) -> None:
    monkeypatch.setattr(receipts, "_BATCH_SECONDS", 0.0)
    queries = MagicMock(messages=AsyncMock(return_value=[]))
    target = receipt_target()
    late = LateReceipts(queries)
    for _ in range(1_200):
        late.add(target, network_id_of(new_uuid()), Receipt.DELIVERED, 1)
    running = asyncio.create_task(late.run())
    try:
        await late.posted()
        assert [len(call.args[1]) for call in queries.messages.call_args_list] == [500, 500, 200]
    finally:
        running.cancel()


async def test_one_late_receipt_that_fails_takes_no_other_with_it(monkeypatch: Any) -> None:
    monkeypatch.setattr(receipts, "_BATCH_SECONDS", 0.0)
    broken, fine = new_uuid(), new_uuid()
    rows = [
        {
            "id": broken,
            "network_id": "ID",
            "chat": "phone:+1",
            "content": b"\xff no message",
            "traceparent": "",
        },
        {"id": fine, "network_id": "ID", "chat": "phone:+1", "content": b"", "traceparent": ""},
    ]
    target = receipt_target()
    late = LateReceipts(MagicMock(messages=AsyncMock(return_value=rows)))
    for message in (broken, fine):
        late.add(target, network_id_of(message), Receipt.DELIVERED, 1)
    running = asyncio.create_task(late.run())
    try:
        await late.posted()
        [call] = target.receipted.call_args_list
        assert (call.args[0].uuid, call.kwargs) == (fine, {"late": True})
        assert not running.done()
    finally:
        running.cancel()


async def test_a_link_that_fails_keeps_no_other_from_having_its_receipts_acknowledged(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(receipts, "_ACK_SECONDS", 0.0)
    journal = MagicMock(flush=AsyncMock())
    acks = ReceiptAcks(journal, MagicMock(posted=AsyncMock()))
    bad, good = MagicMock(), MagicMock()
    bad.bringing.acknowledge_receipts.side_effect = RuntimeError("the transport is closed")
    acks.posted(bad, 3)
    acks.posted(good, 4)
    running = asyncio.create_task(acks.run())
    try:
        await eventually(lambda: good.bringing.acknowledge_receipts.called)
        assert not running.done()
    finally:
        running.cancel()


async def test_receipts_of_an_ended_connection_are_not_acknowledged_on_the_next_one(monkeypatch: Any) -> None:
    monkeypatch.setattr(receipts, "_ACK_SECONDS", 0.0)
    acks = ReceiptAcks(MagicMock(flush=AsyncMock()), MagicMock(posted=AsyncMock()))
    account, other, now = MagicMock(), MagicMock(), MagicMock()
    acks.posted(account, 500)
    account.bringing = now
    acks.posted(other, 1)
    running = asyncio.create_task(acks.run())
    try:
        await eventually(lambda: other.bringing.acknowledge_receipts.called)
        assert not now.acknowledge_receipts.called
    finally:
        running.cancel()


async def test_maintenance_tries_again(failure: Exception, monkeypatch: Any) -> None:
    monkeypatch.setattr(maintenance, "_TABLES_SECONDS", 0.0)
    database = MagicMock(connect_direct=AsyncMock(side_effect=failure))
    database.pool.acquire.side_effect = failure
    running = asyncio.create_task(maintenance.maintain_tables(database))
    try:
        await eventually(lambda: database.connect_direct.call_count > 1)
        assert not running.done()
    finally:
        running.cancel()


async def test_maintenance_goes_on_after_an_error_that_nobody_expected(monkeypatch: Any) -> None:
    monkeypatch.setattr(maintenance, "_TABLES_SECONDS", 0.0)
    connect = AsyncMock(side_effect=asyncpg.DeadlockDetectedError("deadlock detected"))
    database = MagicMock(connect_direct=connect)
    database.pool.acquire.side_effect = TimeoutError()
    running = asyncio.create_task(maintenance.maintain_tables(database))
    try:
        await eventually(lambda: connect.call_count > 1)
        assert not running.done()
    finally:
        running.cancel()


async def test_one_session_that_fails_does_not_keep_the_others_from_being_kept_alive() -> None:
    sessions = {name: MagicMock() for name in ("one", "bad", "three")}
    for session in sessions.values():
        session.context.closed = False
    sessions["bad"].keepalive.side_effect = ValueError("not this one")
    running = asyncio.create_task(maintenance.keep_alive(cast("Any", sessions), 0.1))
    try:
        await eventually(lambda: all(session.keepalive.call_count > 1 for session in sessions.values()))
        assert not running.done()
    finally:
        running.cancel()


async def test_accounts_are_reconciled_again_after_an_error_and_the_later_steps_are_taken() -> None:
    first, second = AsyncMock(side_effect=ValueError("not this time")), AsyncMock()
    running = asyncio.create_task(maintenance.reconcile(0.01, first, second))
    try:
        await eventually(lambda: first.call_count > 1 and second.call_count > 1)
    finally:
        running.cancel()
