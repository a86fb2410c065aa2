"""A Postgres that takes connections and statements, and answers none: frozen, or behind a dead machine."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import grpc.aio
import pytest

from mesh_core.database import Database
from mesh_core.rpc.server.status import from_rpc_error
from mesh_core.settings import DatabaseSettings
from mesh_core.validation import to_timestamp
from mesh_simulator.ledger.records import Kind
from sessionmesh.v1 import message_pb2
from sessionmesh.v1 import session_pb2 as pb
from sessionmesh.v1.common_pb2 import MessageRef
from tests.support.eventually import eventually
from tests.support.relay import Relay, relay_to
from tests.support.session_node_stage import open_stage, text_request

pytestmark = pytest.mark.slow
DEADLINE_SECONDS = 10.0
"""What callers wait, as a rule."""


def address(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def through(relay: Relay, url: str) -> str:
    return url.replace(address(url), relay.url)


async def refusal(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), from_rpc_error(raised.value).reason


async def test_calls_are_told_so_in_time_and_what_was_stored_all_the_same_is_done_once(
    postgres_url: str, etcd: str, tmp_path: Path
) -> None:
    async with relay_to(address(postgres_url)) as relay, open_stage(postgres_url, etcd, tmp_path) as stage:
        node = await stage.start_node(MESH_DATABASE_URL=through(relay, postgres_url))
        account, leaving = await stage.paired(node), await stage.paired(node)
        known = await stage.send(node, account)
        waiting = await stage.send(
            node, account, schedule_time=to_timestamp(datetime.now(UTC) + timedelta(hours=1))
        )
        request = text_request(account, "in the cold")
        logout = pb.LogoutRequest(account_id=leaving.id, request_id=secrets.token_hex(8))
        cancel = message_pb2.CancelMessageRequest(account_id=account.id, message_id=waiting.id)
        get = message_pb2.GetMessageRequest(account_id=account.id, message=MessageRef(message_id=known.id))
        calls = [
            (node.messages.SendMessage, request),
            (node.messages.CancelMessage, cancel),
            (node.messages.GetMessage, get),
            (node.messages.ListMessages, message_pb2.ListMessagesRequest(account_id=account.id)),
            (node.sessions.Logout, logout),
        ]
        relay.hold()
        answers = await asyncio.gather(
            *(
                refusal(method(asked, metadata=stage.metadata, timeout=DEADLINE_SECONDS))
                for method, asked in calls
            )
        )
        assert answers == [(grpc.StatusCode.UNAVAILABLE, "BACKEND_UNAVAILABLE")] * len(calls)
        relay.go_on()
        sent = await stage.owned(lambda: node.messages.SendMessage(request, metadata=stage.metadata))
        await stage.until_status(node, account, sent.message.id, message_pb2.MESSAGE_STATUS_DELIVERED)
        await stage.until_status(node, account, waiting.id, message_pb2.MESSAGE_STATUS_CANCELLED)
        await stage.until_state(node, leaving, pb.SESSION_STATE_LOGGED_OUT)
        assert len(stage.records(Kind.ACCEPTED, account)) == 2


async def test_who_waits_for_a_connection_waits_for_a_bounded_time(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh_core.database.pool._COMMAND_SECONDS", 0.5)
    monkeypatch.setattr("mesh_core.database.bounded_pool.ACQUIRE_SECONDS", 0.5)
    monkeypatch.setattr("mesh_core.database.bounded_pool.CANCEL_SECONDS", 0.1)
    async with relay_to(address(postgres_url)) as relay:
        opened = await Database.open(DatabaseSettings(url=through(relay, postgres_url), pool_size=2))
        relay.hold()
        calls = (opened.pool.fetchval("SELECT 1") for _ in range(50))
        async with asyncio.timeout(30):
            told = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in told} == {TimeoutError}
        relay.go_on()

        async def answers() -> bool:
            with suppress(TimeoutError):
                return bool(await opened.pool.fetchval("SELECT true"))
            return False

        await eventually(answers)
        await opened.close()
