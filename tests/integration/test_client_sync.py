"""The Python client for programs without an event loop."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from mesh_client import BulkResult, Cancelled, FailedPrecondition, InvalidArgument, NotFound
from mesh_client.sync import SyncClient, connect
from mesh_core import errors
from sessionmesh.v1 import (
    account_pb2,
    account_pb2_grpc,
    event_pb2_grpc,
    media_pb2_grpc,
    message_pb2,
    message_pb2_grpc,
    session_pb2,
    session_pb2_grpc,
)
from tests.conftest import LoopThread
from tests.integration.test_client_bulk import Messages, text
from tests.integration.test_client_media import DATA, Media
from tests.integration.test_client_streams import PAIRED, QR, Events, Named, Sessions
from tests.support.fake_router import FakeRouter, refuse


class Accounts(account_pb2_grpc.AccountServiceServicer):
    def __init__(self) -> None:
        self.traceparents: list[str] = []
        self.held = threading.Event()
        self.cancelled = threading.Event()

    async def GetAccount(self, request: Any, context: Any) -> Any:
        self.traceparents.append(dict(context.invocation_metadata()).get("traceparent", ""))
        if request.account_id == "acc_hold":
            context.add_done_callback(lambda _: self.cancelled.set())
            self.held.set()
            await asyncio.Event().wait()
        if request.account_id == "acc_none":
            await refuse(context, errors.NotFound("account", request.account_id))
        return account_pb2.GetAccountResponse(account=account_pb2.Account(id=request.account_id))


class Router:
    """A router on the servers' event loop: the tests have none."""

    def __init__(self) -> None:
        self.accounts = Accounts()
        self.messages = Messages()
        self.media = Media()
        self.events = Events()
        self.sessions = Sessions()
        self.fake = FakeRouter(
            {
                account_pb2_grpc.add_AccountServiceServicer_to_server: self.accounts,
                message_pb2_grpc.add_MessageServiceServicer_to_server: self.messages,
                media_pb2_grpc.add_MediaServiceServicer_to_server: self.media,
                event_pb2_grpc.add_EventServiceServicer_to_server: self.events,
                session_pb2_grpc.add_SessionServiceServicer_to_server: self.sessions,
            }
        )


@pytest.fixture
def router(server_loop: LoopThread) -> Iterator[Router]:
    running = Router()
    server_loop.run(running.fake.start())
    yield running
    server_loop.run(running.fake.kill())


@pytest.fixture
def client(router: Router) -> Iterator[SyncClient]:
    with connect(router.fake.address, "key") as connected:
        yield connected


def test_calls_wait_for_their_answer_or_raise(client: SyncClient) -> None:
    assert client.get_account("acc_1").id == "acc_1"
    request = account_pb2.GetAccountRequest(account_id="acc_2")
    assert client.accounts.GetAccount(request, timeout=5).account.id == "acc_2"
    with pytest.raises(NotFound) as raised:
        client.get_account("acc_none")
    assert raised.value.resource == "account acc_none"
    with pytest.raises(InvalidArgument):
        client.get_account("acc 1")
    assert client.settle() == client.transport == "plain"


def test_threads_share_a_client(client: SyncClient) -> None:
    with ThreadPoolExecutor(8) as threads:
        names = [f"acc_{number}" for number in range(200)]
        assert [account.id for account in threads.map(client.get_account, names)] == names


def test_a_call_belongs_to_the_applications_trace(client: SyncClient, router: Router) -> None:
    with TracerProvider().get_tracer("test").start_as_current_span("work") as span:
        client.get_account("acc_1")
    assert f"{span.get_span_context().span_id:016x}" in router.accounts.traceparents[0]


def test_streams_are_iterated_over_and_may_be_left(client: SyncClient, router: Router) -> None:
    router.sessions.steps = [[QR[0], QR[1]], [PAIRED]]
    assert list(client.pair("acc_1")) == [QR[0], QR[1], PAIRED]
    router.sessions.steps = [[QR[0], PAIRED]]
    request = session_pb2.PairRequest(account_id="acc_1")
    assert list(client.sessions.Pair(request)) == [QR[0], PAIRED]
    session = session_pb2.Session(account_id="acc_1")
    router.sessions.sessions = [[session]]
    for watched in client.watch_session("acc_1"):
        assert watched == session
        break


def test_events_are_followed(client: SyncClient) -> None:
    subscription = client.subscribe(from_oldest=True)
    seen = []
    for happened in subscription:
        seen.append(happened.id)
        if len(seen) == 10:
            break
    assert seen == [f"evt_{number}" for number in range(1, 11)]
    assert subscription.cursor == "cursor-010"
    assert next(subscription.batches()).cursor == "cursor-010"


def test_a_named_subscription_is_acknowledged(server_loop: LoopThread) -> None:
    served = Named()
    router = FakeRouter({event_pb2_grpc.add_EventServiceServicer_to_server: served})
    server_loop.run(router.start())
    with connect(router.address, "key", transport="plain") as client:
        subscription = client.subscribe(subscription="orders")
        for happened in subscription:
            assert subscription.acknowledge()
            if happened.id == "evt_6":
                break
    server_loop.run(router.kill())
    assert [one.cursor for one in served.acknowledged][-1] == "cursor-006"


def test_files_go_up_and_come_down(client: SyncClient, tmp_path: Path) -> None:
    told: list[int] = []
    client.upload(DATA, file_name="x", progress=lambda done, _total: told.append(done))
    assert told[-1] == len(DATA)
    assert client.download("med_1") == b"".join(client.download_chunks("med_1")) == DATA
    client.download_to("med_1", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA


def test_many_messages_are_sent_from_several_threads(client: SyncClient, router: Router) -> None:
    with client.bulk() as bulk, ThreadPoolExecutor(4) as threads:
        futures = list(threads.map(bulk.send, (text(number) for number in range(400))))
    assert [future.result().id for future in futures] == [f"msg_request-{number}" for number in range(400)]
    results: list[BulkResult] = []
    with client.bulk(max_in_flight=10) as bulk:
        results += bulk.results(
            text(number, external_id="e" * 1_100_000 if number == 7 else "") for number in range(100)
        )
        late = bulk.send(text(1000))
        bulk.drain()
        assert late.result(0).id == "msg_request-1000"
    assert len(results) == 100
    [wrong] = [result for result in results if result.error]
    assert isinstance(wrong.error, InvalidArgument)
    [only] = client.send_many([text(2000)])
    assert only.message is not None


def test_a_bulk_future_has_the_items_own_error(client: SyncClient, router: Router) -> None:
    async def wrong_key(frame: message_pb2.SendMessagesRequest, context: Any) -> Any:
        await refuse(context, errors.FailedPrecondition("suspended", "TENANT_SUSPENDED"))

    router.messages.answer = wrong_key
    with client.bulk() as bulk, pytest.raises(FailedPrecondition, match="TENANT_SUSPENDED"):
        bulk.send(text(1)).result()


def test_closing_ends_the_calls_of_other_threads(client: SyncClient, router: Router) -> None:
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(client.get_account, "acc_hold")
        assert router.accounts.held.wait(10)
        client.close()
        with pytest.raises(Cancelled):
            call.result()
    with pytest.raises(RuntimeError, match="closed"):
        client.get_account("acc_1")
    client.close()


def test_a_callback_that_calls_the_client_is_told_instead_of_hanging(client: SyncClient) -> None:
    def call(_done: int, _total: int) -> None:
        client.get_account("acc_1")

    with pytest.raises(RuntimeError, match="callbacks must not"):
        client.upload(DATA, progress=call)


PROGRAM = """
import os, sys
from mesh_client.sync import connect
client = connect(sys.argv[1], "key")
print(client.get_account("acc_1").id, flush=True)
"""


def program(router: Router, more: str) -> subprocess.Popen[str]:
    """A program of its own, which never closes its client."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM + more, router.fake.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_program_ends_although_its_client_is_open(router: Router) -> None:
    more = "watch = iter(client.subscribe(from_oldest=True)); print(next(watch).id)"
    out, err = program(router, more).communicate(timeout=30)
    assert (out.split(), err) == (["acc_1", "evt_1"], "")


def test_ctrl_c_cancels_the_call(router: Router) -> None:
    running = program(router, "client.get_account('acc_hold')")
    assert router.accounts.held.wait(30)
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert err.splitlines()[-1] == "KeyboardInterrupt"
    assert router.accounts.cancelled.wait(10)


def test_a_forked_process_is_told_to_connect_anew(router: Router) -> None:
    more = """
if os.fork() == 0:
    try:
        client.get_account("acc_2")
    except RuntimeError as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
print(client.get_account("acc_3").id)
"""
    out, err = program(router, more).communicate(timeout=30)
    assert out.splitlines() == [
        "acc_1",
        "this client was made before the process forked: connect in each process",
        "acc_3",
    ], err
