"""Chats of linked devices, with the real sidecar: the past that phones give, and what others set there."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from google.rpc import code_pb2, status_pb2

from mesh_core import ids
from mesh_core.ids import Prefix
from sessionmesh.simulator.v1 import simulator_pb2 as api
from sessionmesh.v1 import chat_pb2, chat_pb2_grpc, event_pb2, job_pb2, message_pb2, session_pb2
from tests.support.eventually import eventually
from tests.support.session_node_stage import Account, NodeProcess, Stage
from tests.support.tools import missing_tool
from tests.support.whatsapp_web_world import fake_network, is_built

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]
WAIT = 1.5
"""How long the node waits for a phone, in seconds."""
ADA, BOB = "phone:+4915112345701", "phone:+4915112345702"


class Phones:
    """A node, and the network on which its accounts' phones are."""

    def __init__(self, stage: Stage, node: NodeProcess, network: Any) -> None:
        self.stage = stage
        self.node = node
        self._network = network

    async def ask(self, method: str, **request: Any) -> Any:
        """Call SimulatorService."""
        return await getattr(self._network, method)(getattr(api, f"{method}Request")(**request), None)

    async def linked(self) -> Account:
        """An account that is linked and online."""
        account = await self.stage.create_account("whatsapp_web")
        async for step in await self.stage.pairing(self.node, account):
            if step.WhichOneof("step") == "qr":
                await self.ask("AcceptPairing", qr=step.qr.text, phone=account.phone)
        await self.stage.until_state(self.node, account, session_pb2.SESSION_STATE_CONNECTED)
        return account

    async def give_past(self, account: Account, messages: int, chat: str = ADA, **how: Any) -> None:
        """The phone has so many messages of a chat, and answers so."""
        await self.ask("GivePhoneHistory", phone=account.phone, chat=chat, messages=messages, **how)

    async def synced(self, account: Account, **fields: Any) -> Any:
        """The row of a job of SyncHistory, once it has ended."""
        request = chat_pb2.SyncHistoryRequest(
            account_id=account.id, request_id=secrets.token_hex(8), **fields
        )
        stub = chat_pb2_grpc.ChatServiceStub(self.node.channel)
        job = (await stub.SyncHistory(request, metadata=self.stage.metadata, timeout=20)).job
        uuid = ids.decode(Prefix.JOB, job.id, "job")

        async def ended() -> Any:
            found = "SELECT * FROM job WHERE id = $1 AND end_time IS NOT NULL"
            return await self.stage.database.fetchrow(found, uuid)

        return await eventually(ended)

    async def texts(self, account: Account, chat: str = ADA) -> list[str]:
        """What is stored of a chat's past, oldest first."""
        rows = await self.stage.database.fetch(
            "SELECT content FROM message WHERE account = $1 AND chat = $2 AND beside = 1"
            " ORDER BY network_time, id DESC",
            account.uuid,
            chat,
        )
        return [message_pb2.Message.FromString(row["content"]).content.text.body for row in rows]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def phones(stage: Stage) -> AsyncIterator[Phones]:
    if not is_built():
        missing_tool("sidecar and test network are not built: run `make whatsapp-web`")
    async with fake_network() as (network, service):
        node = await stage.start_node(
            MESH_WHATSAPP_WEB_TEST_NETWORK=network.ready.network,
            MESH_WHATSAPP_WEB_TEST_ROOT=network.ready.root_key,
            MESH_WHATSAPP_WEB_HISTORY_SECONDS=str(WAIT),
            MESH_SESSION_HISTORY_PER_MINUTE="6000",
        )
        yield Phones(stage, node, service)


async def test_a_phone_gives_the_past_of_a_chat_page_by_page_in_whatever_order(phones: Phones) -> None:
    account = await phones.linked()
    await phones.give_past(account, 120, shuffled=True)

    row = await phones.synced(account, chat=ADA)

    assert (row["state"], row["done"]) == (job_pb2.JOB_STATE_SUCCEEDED, 120)
    assert await phones.texts(account) == [f"past {at}" for at in range(120)]
    bodies = [body for kind, body in await phones.stage.events(account) if kind == "history.synced"]
    told = [event_pb2.Event.FromString(body).history for body in bodies]
    assert [(one.message_count, one.exhausted) for one in told] == [(50, False), (50, False), (20, True)]
    assert told[-1].oldest_message.network_message_id.endswith("-0")


async def test_a_phone_is_asked_for_what_is_older_than_what_is_stored(phones: Phones) -> None:
    account = await phones.linked()
    await phones.give_past(account, 60)
    assert (await phones.synced(account, chat=ADA, max_messages=10))["done"] == 10

    assert (await phones.synced(account, chat=ADA, max_messages=20))["done"] == 20

    assert await phones.texts(account) == [f"past {at}" for at in range(30, 60)]


async def test_an_answer_that_comes_too_late_is_still_taken(phones: Phones) -> None:
    account = await phones.linked()
    await phones.give_past(account, 30, answer_after={"seconds": 2})

    row = await phones.synced(account, chat=ADA)

    assert row["state"] == job_pb2.JOB_STATE_SUCCEEDED
    assert await phones.texts(account) == [f"past {at}" for at in range(30)]


async def test_a_phone_that_never_answers_ends_the_job(phones: Phones) -> None:
    account = await phones.linked()
    await phones.give_past(account, 30, silent=True)

    row = await phones.synced(account, chat=ADA)

    assert row["state"] == job_pb2.JOB_STATE_FAILED
    error = status_pb2.Status.FromString(row["error"])
    assert (error.code, "does not answer" in error.message) == (code_pb2.DEADLINE_EXCEEDED, True)


async def test_of_all_chats_one_that_the_phone_does_not_answer_for_is_passed_over(phones: Phones) -> None:
    account = await phones.linked()
    for chat in (ADA, BOB):  # of which nothing is stored to go back from
        await phones.ask("ActOnPhone", phone=account.phone, chat=chat, pin=True)
    await phones.give_past(account, 30, silent=True)
    await phones.give_past(account, 20, BOB)

    async def known() -> bool:
        found = "SELECT count(*) FROM chat WHERE account = $1"
        return bool(await phones.stage.database.fetchval(found, account.uuid) == 2)

    await eventually(known)

    row = await phones.synced(account)

    assert (row["state"], row["done"], row["error"]) == (job_pb2.JOB_STATE_SUCCEEDED, 20, None)
    assert await phones.texts(account, BOB) == [f"past {at}" for at in range(20)]


async def test_what_the_other_person_sets_for_messages_that_disappear_is_stored_and_told(
    phones: Phones,
) -> None:
    account = await phones.linked()
    for seconds in (86_400, 0):
        await phones.ask("ActOnPhone", phone=account.phone, chat=ADA, disappear_after_seconds=seconds)

    async def told() -> list[int]:
        bodies = [body for kind, body in await phones.stage.events(account) if kind == "chat.updated"]
        chats = [event_pb2.Event.FromString(body).chat.chat for body in bodies]
        found = [one.disappear_after.seconds for one in chats if one.address == ADA]
        return found if len(found) == 2 else []

    assert await eventually(told) == [86_400, 0]
    kept = "SELECT disappear FROM chat WHERE account = $1 AND chat = $2"
    assert await phones.stage.database.fetchval(kept, account.uuid, ADA) == 0
