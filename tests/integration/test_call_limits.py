"""Limits of calls counted in a real Redis, and enforced by the server chassis where a call enters."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc.aio
import pytest
from asyncpg.pgproto.pgproto import UUID
from google.protobuf.wrappers_pb2 import StringValue
from grpc import StatusCode
from redis.asyncio import Redis

from mesh_cli.embedded import EmbeddedRedis, free_port
from mesh_core import errors, ids
from mesh_core.ids import Prefix
from mesh_core.rpc.auth import TENANT_SCOPES, KeyRow, Role, new_api_key
from mesh_core.rpc.auth.identity import ADMIN_SCOPES
from mesh_core.rpc.limits import Entry, SharedCounts, relayed_metadata
from mesh_core.rpc.limits.bucket import Bucket
from mesh_core.rpc.limits.shared import Asked, Granted
from mesh_core.rpc.server import status
from mesh_core.settings import AuthSettings, CallLimit, LimitsSettings, RedisSettings, ServerSettings
from tests.integration.test_server_calls import Running, failure, text
from tests.support.eventually import eventually
from tests.support.probe_service import MESH, MESH_KEY, Echo, add_probe_to_server, letters, make_server


@pytest.fixture
async def counts(redis_url: str) -> AsyncIterator[SharedCounts]:
    counts = SharedCounts(redis_url, patient=True)  # a busy machine is no wrong answer
    yield counts
    await counts.close()


def bucket(calls: int, seconds: float = 60.0) -> Bucket:
    """One that no other test uses."""
    return Bucket(f"test:{{{ids.new_uuid()}}}", "key:x", CallLimit(calls, seconds), exact=True)


async def take(counts: SharedCounts, one: Bucket, want: int, need: int = 1, untold: int = 0) -> Granted:
    answers = await counts.take([Asked(one, untold, need, want)])
    assert answers is not None
    return answers[0]


async def test_as_much_as_the_limit_is_granted_at_once_and_then_one_by_one(counts: SharedCounts) -> None:
    limit = bucket(10)
    assert await take(counts, limit, 7) == Granted(7, 0.0)
    assert await take(counts, limit, 7) == Granted(3, 0.0)
    refused = await take(counts, limit, 7)
    assert refused.calls == 0
    assert 5.0 < refused.retry_after <= 6.0, "a tenth of a minute"


async def test_what_was_refused_may_be_asked_for_again_when_the_answer_said(counts: SharedCounts) -> None:
    limit = bucket(2, seconds=0.4)
    assert (await take(counts, limit, 2)).calls == 2
    refused = await take(counts, limit, 1)
    assert 0 < refused.retry_after <= 0.2

    async def granted() -> bool:
        return (await take(counts, limit, 1)).calls == 1

    await eventually(granted, seconds=5)


async def test_a_clock_of_redis_that_stepped_back_keeps_nobody_waiting_longer_than_a_window(
    counts: SharedCounts, redis_url: str
) -> None:
    limit = bucket(10)
    assert (await take(counts, limit, 1)).calls == 1
    async with Redis.from_url(redis_url) as redis:
        later = int(await redis.get(limit.redis_key) or 0) + 3_600_000_000
        await redis.set(limit.redis_key, later)
    refused = await take(counts, limit, 1)
    assert refused.calls == 0
    assert refused.retry_after <= 6.0, "a tenth of a minute"


async def test_processes_share_one_count_and_are_told_what_others_granted_by_themselves(
    counts: SharedCounts, redis_url: str
) -> None:
    other = SharedCounts(redis_url, patient=True)
    limit = bucket(100)
    assert (await take(other, limit, 20, untold=30)).calls == 20
    assert (await take(counts, limit, 100)).calls == 50
    await other.close()


async def test_several_limits_are_one_round_trip_and_idle_ones_are_no_keys(
    counts: SharedCounts, redis_url: str
) -> None:
    many = [bucket(10), bucket(5)]
    assert await counts.take([Asked(one, 0, 1, 8) for one in many]) == [Granted(8, 0.0), Granted(5, 0.0)]
    async with Redis.from_url(redis_url) as redis:
        assert 40_000 < await redis.pttl(many[0].redis_key) <= 48_000


async def test_many_questions_at_once_are_all_answered(counts: SharedCounts) -> None:
    answers = await asyncio.gather(*(take(counts, bucket(1), 1) for _ in range(500)))
    assert [answer.calls for answer in answers] == [1] * 500


async def test_a_redis_that_has_lost_the_script_is_given_it_again(
    counts: SharedCounts, redis_url: str
) -> None:
    limit = bucket(10)
    await take(counts, limit, 1)
    async with Redis.from_url(redis_url) as redis:
        await redis.script_flush()
    assert (await take(counts, limit, 10)).calls == 9


@pytest.mark.parametrize("patient", [False, True], ids=["messages", "operations"])
async def test_a_redis_that_does_not_answer_is_left_alone_for_a_moment(
    patient: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh_core.rpc.limits.shared.OPERATION_TIMEOUT_SECONDS", 0.5)

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    held: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(hold, "127.0.0.1", 0)
    counts = SharedCounts(f"redis://127.0.0.1:{silent.sockets[0].getsockname()[1]}/0", patient=patient)
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await counts.take([Asked(bucket(1), 0, 1, 1)]) is None
    assert loop.time() - began < 5
    assert not counts.available
    asked = len(held)
    assert await counts.take([Asked(bucket(1), 0, 1, 1)]) is None
    assert len(held) == asked
    await eventually(lambda: counts.available, seconds=5)
    for writer in held:
        writer.close()
    silent.close()
    await counts.close()


async def test_a_loop_that_was_held_up_hears_what_redis_answered_meanwhile(redis_url: str) -> None:
    counts = SharedCounts(redis_url)
    await take(counts, bucket(1), 1)  # over this connection
    asking = asyncio.create_task(take(counts, bucket(1), 1))
    while not asking.done():
        await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251 - it is held up, longer than Redis is waited for
    assert asking.result() == Granted(1, 0.0)
    assert counts.available
    await counts.close()


async def test_while_redis_stands_still_who_is_over_a_limit_stays_refused_and_others_have_theirs(
    tmp_state: Path,
) -> None:
    server = EmbeddedRedis(tmp_state)
    limits = LimitsSettings(key=("message=5/600s", "query=5/600s"))
    async with Caller(await server.start(), limits) as caller:
        try:
            assert await sent(caller) == 5
            os.kill(server.pid, signal.SIGSTOP)
            try:
                assert await read(caller) == 5
                assert await sent(caller) == 0
                await eventually(lambda: caller.counts.available, seconds=5)
                assert await sent(caller) == 0, "nor after another question"
            finally:
                os.kill(server.pid, signal.SIGCONT)
        finally:
            await server.stop()


async def sent(caller: Caller) -> int:
    """How many of ten messages are let in."""
    return await let_in(caller.send)


async def read(caller: Caller) -> int:
    """The same of queries."""
    return await let_in(lambda: caller.probe.Down(StringValue(value="a"), metadata=caller.metadata).read())


async def let_in(call: Callable[[], Any]) -> int:
    served = 0
    for _ in range(10):
        try:
            await call()
            served += 1
        except grpc.aio.AioRpcError as refused:
            if status.from_rpc_error(refused).reason != "RATE_LIMITED":
                raise
    return served


@asynccontextmanager
async def slow_redis(url: str, seconds: Callable[[int], float]) -> AsyncIterator[str]:
    """The URL of that Redis, whose first answer over each connection comes late; `seconds` of its number."""
    real = urlsplit(url)
    tasks: list[asyncio.Task[None]] = []
    connections = count()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, late: float = 0.0) -> None:
        with suppress(ConnectionError), closing(writer):
            while data := await reader.read(65_536):
                await asyncio.sleep(late)
                writer.write(data)
                late = 0.0

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        late = seconds(next(connections))
        answers, questions = await asyncio.open_connection(real.hostname, real.port)
        tasks.append(asyncio.create_task(carry(reader, questions)))
        tasks.append(asyncio.create_task(carry(answers, writer, late)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}{real.path}"
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_on_a_slow_machine_instance_operations_wait_and_messages_do_not(redis_url: str) -> None:
    async with slow_redis(redis_url, lambda _: 0.8) as slow:
        patient, quick = SharedCounts(slow, patient=True), SharedCounts(slow)
        began = time.monotonic()
        assert await quick.take([Asked(bucket(1), 0, 1, 1)]) is None
        assert time.monotonic() - began < 0.75
        assert (await take(patient, bucket(1), 1)).calls == 1
        await patient.close()
        await quick.close()


async def test_an_instance_operation_is_asked_for_once_more(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh_core.rpc.limits.shared.OPERATION_TIMEOUT_SECONDS", 1.0)
    async with slow_redis(redis_url, lambda connection: 0.0 if connection else 60.0) as slow:
        patient = SharedCounts(slow, patient=True)
        assert (await take(patient, bucket(1), 1)).calls == 1
        await patient.close()


async def test_a_redis_that_was_started_again_counts_at_once_on_every_connection(tmp_state: Path) -> None:
    server = EmbeddedRedis(tmp_state)
    counts = SharedCounts(await server.start(), patient=True)
    try:
        await asyncio.gather(*(take(counts, bucket(1), 1) for _ in range(50)))
        await server.stop()
        assert await counts.take([Asked(bucket(1), 0, 1, 1)]) is None
        await server.start()
        await eventually(lambda: counts.available, seconds=5)
        answers = await asyncio.gather(*(take(counts, bucket(1), 1) for _ in range(50)))
        assert [answer.calls for answer in answers] == [1] * 50
    finally:
        await counts.close()
        await server.stop()


class Caller:
    """A tenant's key, and a server that knows it."""

    def __init__(self, url: str, limits: LimitsSettings, trusted_proxies: tuple[str, ...] = ()) -> None:
        _, secret, digest = new_api_key()
        self.tenant = ids.new_uuid()
        self.row = KeyRow(Role.TENANT, self.tenant, digest, TENANT_SCOPES)
        self.metadata = (("authorization", f"Bearer {secret}"),)
        settings = ServerSettings(trusted_proxies=trusted_proxies)
        auth = AuthSettings(mesh_key=MESH_KEY)
        self.entry = Entry.of(settings, auth, RedisSettings(url=url), limits)
        self.counts = self.entry._counts[0]
        server = make_server(lookup=self._lookup, entry=self.entry)
        server.add(add_probe_to_server, Echo())
        self._running = Running(server)

    async def _lookup(self, _key_id: UUID) -> KeyRow:
        return self.row

    async def __aenter__(self) -> Caller:
        self.probe = (await self._running.__aenter__()).probe
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._running.__aexit__(*error)
        await self.entry.close()

    async def send(self, *metadata: tuple[str, str]) -> Any:
        return await self.probe.Unary(text("x"), metadata=(*self.metadata, *metadata))


ONE_MESSAGE = LimitsSettings(key=("message=1/60s",))


async def test_the_call_over_a_limit_is_told_which_one_and_when_again(redis_url: str) -> None:
    async with Caller(redis_url, ONE_MESSAGE) as caller:
        await caller.send()
        refused = await failure(caller.send())
    assert isinstance(refused, errors.ResourceExhausted)
    assert (refused.code, refused.reason) == (StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    assert refused.retry_after is not None
    assert 50 < refused.retry_after <= 60
    assert refused.quota is not None
    assert refused.quota.startswith(f"key:{Prefix.KEY.value}_")


async def test_an_upload_over_a_limit_is_refused_with_its_reason_too(redis_url: str) -> None:
    async with Caller(redis_url, ONE_MESSAGE) as caller:
        await caller.send()
        refused = await failure(caller.probe.Up(letters("x" * 200), metadata=caller.metadata))
    assert refused.reason == "RATE_LIMITED"


async def test_the_parts_of_the_mesh_are_not_counted_nor_what_they_pass_on(redis_url: str) -> None:
    async with Caller(redis_url, ONE_MESSAGE) as caller:
        for _ in range(3):
            await caller.probe.Unary(text("x"), metadata=MESH)
            await caller.send(*relayed_metadata(MESH_KEY))
        await caller.send()
        assert (await failure(caller.send())).reason == "RATE_LIMITED"


@pytest.mark.parametrize("claim", ["", "1", "x" * 64, relayed_metadata("another-key-than-ours")[0][1]])
async def test_nobody_else_can_say_that_a_call_was_counted(redis_url: str, claim: str) -> None:
    async with Caller(redis_url, ONE_MESSAGE) as caller:
        await caller.send()
        assert (await failure(caller.send(("x-mesh-relayed", claim)))).reason == "RATE_LIMITED"


async def test_behind_a_trusted_proxy_each_address_has_its_own_limit(redis_url: str) -> None:
    limits = LimitsSettings(key_address=("message=1/60s",))
    async with Caller(redis_url, limits, trusted_proxies=("127.0.0.0/8", "::1")) as caller:
        await caller.send(("x-forwarded-for", "192.0.2.1"))
        await caller.send(("x-forwarded-for", "192.0.2.2"))
        refused = await failure(caller.send(("x-forwarded-for", "192.0.2.9, 192.0.2.1")))
        assert refused.reason == "RATE_LIMITED"


async def test_a_proxy_that_is_not_trusted_is_the_source_itself(redis_url: str) -> None:
    async with Caller(redis_url, LimitsSettings(key_address=("message=1/60s",))) as caller:
        await caller.send(("x-forwarded-for", "192.0.2.1"))
        refused = await failure(caller.send(("x-forwarded-for", "192.0.2.2")))
        assert refused.reason == "RATE_LIMITED"


async def test_without_redis_messages_are_counted_by_the_process_and_instance_operations_not_served() -> None:
    limits = LimitsSettings(key=("message=3/600s", "instance_operation=1/60s"))
    async with Caller(f"redis://127.0.0.1:{free_port()}/0", limits) as caller:
        caller.row = replace(caller.row, role=Role.ADMIN, tenant_id=None, scopes=ADMIN_SCOPES)
        assert await sent(caller) == 3
        refused = await failure(caller.probe.Operate(text("x"), metadata=caller.metadata))
        assert (refused.code, refused.reason) == (StatusCode.UNAVAILABLE, "BACKEND_UNAVAILABLE")
        assert refused.retry_after == 1.0


async def test_a_method_without_a_class_is_not_counted(redis_url: str) -> None:
    async with Caller(redis_url, ONE_MESSAGE) as caller:
        for _ in range(3):
            assert (await caller.probe.Public(text("x"))).value == "x"


async def test_a_stream_is_counted_once_when_it_is_opened(redis_url: str) -> None:
    async with Caller(redis_url, LimitsSettings(key=("query=1/60s",))) as caller:
        stream = caller.probe.Down(StringValue(value="abc"), metadata=caller.metadata)
        assert [part.value async for part in stream] == ["a", "b", "c"]
        again = caller.probe.Down(StringValue(value="abc"), metadata=caller.metadata)
        assert (await failure(again.read())).reason == "RATE_LIMITED"
