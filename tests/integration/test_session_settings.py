"""A session's settings, through real nodes: what is given is kept, shown and done, and what cannot be is
refused.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from mesh_core.rpc.server.status import from_rpc_error
from mesh_simulator.ledger.records import Kind
from sessionmesh.v1 import message_pb2
from sessionmesh.v1 import session_pb2 as pb
from tests.support.eventually import eventually
from tests.support.proxy_server import proxy_server
from tests.support.session_node_stage import Account, NodeProcess, Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def node(stage: Stage) -> NodeProcess:
    """A node whose accounts may have proxies here."""
    return await stage.start_node(MESH_SESSION_PROXY_PRIVATE_ADDRESSES="true")


async def read(stage: Stage, node: NodeProcess, account: Account) -> pb.SessionSettings:
    request = pb.GetSessionSettingsRequest(account_id=account.id)
    answer = await stage.owned(lambda: node.sessions.GetSessionSettings(request, metadata=stage.metadata))
    return pb.SessionSettings.FromString(answer.settings.SerializeToString())


async def update(
    stage: Stage, node: NodeProcess, account: Account, *paths: str, etag: str = "", **fields: Any
) -> pb.SessionSettings:
    """Sets these fields, and what else the mask names to nothing."""
    request = pb.UpdateSessionSettingsRequest(
        account_id=account.id,
        settings=pb.SessionSettings(etag=etag, **fields),
        update_mask=FieldMask(paths=paths or fields),
    )
    answer = await stage.owned(lambda: node.sessions.UpdateSessionSettings(request, metadata=stage.metadata))
    return pb.SessionSettings.FromString(answer.settings.SerializeToString())


async def refused(
    stage: Stage, node: NodeProcess, account: Account, *paths: str, etag: str = "", **fields: Any
) -> list[str]:
    """Code, reason and, where there is one, field of the error."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await update(stage, node, account, *paths, etag=etag, **fields)
    error = from_rpc_error(caught.value)
    return [part for part in (caught.value.code().name, error.reason, getattr(error, "field", "")) if part]


def seconds(number: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(int(number * 1e9))
    return duration


@pytest.mark.read_back("GetSessionSettings", "UpdateSessionSettings")
async def test_settings_are_kept_and_absent_is_the_default(stage: Stage, node: NodeProcess) -> None:
    account = await stage.create_account()
    assert await read(stage, node, account) == pb.SessionSettings(etag="v0")
    given = pb.SessionSettings(
        auto_read=True,
        show_online=False,
        reject_calls=True,
        reject_calls_text="Write to me",
        ignore_groups=True,
        fetch_media_up_to_bytes=0,
        device_name="Front desk",
        pacing=pb.SendPacing(min_gap=seconds(0.5), max_gap=seconds(2), show_typing=True),
        warm_up=pb.WarmUpPlan(messages_per_day=[20, 50, 100]),
    )

    fields = {field.name: value for field, value in given.ListFields()}
    shown = await update(stage, node, account, **fields)

    assert shown == await read(stage, node, account)
    assert shown.etag == "v1"
    shown.etag = ""
    assert shown == given


async def test_only_what_the_mask_names_changes(stage: Stage, node: NodeProcess) -> None:
    account = await stage.create_account()
    await update(stage, node, account, auto_read=False, device_name="One")

    await update(stage, node, account, "device_name", auto_read=True, device_name="Two")
    shown = await read(stage, node, account)
    assert (shown.HasField("auto_read"), shown.auto_read, shown.device_name) == (True, False, "Two")

    await update(stage, node, account, "auto_read", "device_name")
    shown = await read(stage, node, account)
    assert (shown.HasField("auto_read"), shown.device_name) == (False, "")


async def test_an_update_with_another_etag_is_refused(stage: Stage, node: NodeProcess) -> None:
    account = await stage.create_account()
    first = await update(stage, node, account, auto_read=True)
    await update(stage, node, account, etag=first.etag, auto_read=False)

    assert await refused(stage, node, account, etag=first.etag, auto_read=True) == [
        "ABORTED",
        "ETAG_MISMATCH",
    ]
    assert not (await read(stage, node, account)).auto_read


async def test_what_cannot_be_set_says_which_field(stage: Stage, node: NodeProcess) -> None:
    account = await stage.create_account()
    invalid = ["INVALID_ARGUMENT", "INVALID_FIELD"]

    async def said(*paths: str, **fields: Any) -> str:
        answer = await refused(stage, node, account, *paths, **fields)
        assert answer[:2] == invalid
        return answer[2]

    pacing, plan = pb.SendPacing, pb.WarmUpPlan
    assert await said("etag", auto_read=True) == "update_mask"
    assert await said("has_proxy", auto_read=True) == "update_mask"
    assert await said(reject_calls_text="x" * 1025) == "settings.reject_calls_text"
    assert await said(device_name="x" * 51) == "settings.device_name"
    assert await said(device_name="x\u202ey") == "settings.device_name"
    assert await said(fetch_media_up_to_bytes=-1) == "settings.fetch_media_up_to_bytes"
    assert await said(pacing=pacing(min_gap=seconds(-1))) == "settings.pacing.min_gap"
    assert await said(pacing=pacing(max_gap=seconds(601))) == "settings.pacing.max_gap"
    assert await said(pacing=pacing(min_gap=seconds(2), max_gap=seconds(1))) == "settings.pacing.max_gap"
    assert await said(pacing=pacing(max_typing=seconds(61))) == "settings.pacing.max_typing"
    assert await said(warm_up=plan(messages_per_day=[1] * 61)) == "settings.warm_up.messages_per_day"
    assert await said(warm_up=plan(messages_per_day=[5, 0])) == "settings.warm_up.messages_per_day[1]"
    for url in (
        "ftp://proxy.example:1",
        "socks5://",
        "http://proxy.example/path",
        "http://proxy example",
        "http://proxy.example:0",
        f"http://{'u' * 256}:p@proxy.example",
        "http://" + "p" * 2048,
    ):
        assert await said(proxy_url=url) == "settings.proxy_url"
    assert await read(stage, node, account) == pb.SessionSettings(etag="v0")


async def test_settings_of_another_tenants_account_are_nobodys(stage: Stage, node: NodeProcess) -> None:
    foreign = await stage.of_another_tenant()
    missing = ["NOT_FOUND", "RESOURCE_NOT_FOUND"]
    assert await refused(stage, node, foreign, auto_read=True) == missing
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read(stage, node, foreign)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_an_account_connects_through_its_proxy_and_another_one_at_once(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    async with proxy_server("anna:secret") as first, proxy_server() as second:
        shown = await update(stage, node, account, proxy_url=first.url("socks5"))
        assert (shown.has_proxy, shown.proxy_url) == (True, "")
        await eventually(lambda: first.targets == [stage.network.address])
        await stage.until_state(node, account, pb.SESSION_STATE_CONNECTED)

        await update(stage, node, account, proxy_url=second.url("http"))
        await eventually(lambda: second.targets == [stage.network.address])
        await stage.until_state(node, account, pb.SESSION_STATE_CONNECTED)

        await update(stage, node, account, "*", auto_read=True)
        assert (await read(stage, node, account)).has_proxy
        await update(stage, node, account, "proxy_url")
        assert not (await read(stage, node, account)).has_proxy
        await stage.until_state(node, account, pb.SESSION_STATE_CONNECTED)
        assert (len(first.targets), len(second.targets)) == (1, 1)


async def test_an_account_whose_proxy_is_gone_does_not_connect_past_it(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    async with proxy_server("anna:secret") as server:
        await update(stage, node, account, proxy_url=server.url("http", "anna:wrong"))
        session = await stage.until_state(node, account, pb.SESSION_STATE_BACKOFF)
    assert server.refused
    assert "wrong" not in session.detail
    assert stage.on_network(account).client is None
    assert not node.log.says("wrong")


async def test_what_was_set_before_pairing_reaches_it(stage: Stage, node: NodeProcess) -> None:
    account = await stage.create_account()
    async with proxy_server() as server:
        await update(
            stage,
            node,
            account,
            device_name="Front desk",
            sync_full_history=True,
            proxy_url=server.url("socks5"),
        )
        await stage.pair(node, account)
        await stage.until_state(node, account, pb.SESSION_STATE_CONNECTED)
        on_network = stage.on_network(account)
        assert (on_network.device_name, on_network.with_history) == ("Front desk", True)
        assert len(server.targets) == 2, "the pairing and the login"


async def test_messages_leave_with_gaps_and_are_written_first(stage: Stage, node: NodeProcess) -> None:
    account = await stage.paired(node)
    pacing = pb.SendPacing(
        min_gap=seconds(0.4), max_gap=seconds(0.5), show_typing=True, max_typing=seconds(0.2)
    )
    await update(stage, node, account, pacing=pacing)

    sent = [await stage.send(node, account, text) for text in ("one", "two", "three")]
    await stage.until_status(node, account, sent[-1].id, message_pb2.MESSAGE_STATUS_DELIVERED)

    accepted = stage.records(Kind.ACCEPTED, account)
    assert [record.id for record in accepted] == [message.network_message_id for message in sent]
    times = [record.time_us / 1e6 for record in accepted]
    assert all(later - earlier >= 0.55 for earlier, later in pairwise(times))
    assert len(stage.records(Kind.TYPING, account)) == 3


async def test_a_new_number_sends_what_its_day_allows_and_the_session_says_which_day(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    await update(stage, node, account, warm_up=pb.WarmUpPlan(messages_per_day=[2, 4]))
    *_, third = [await stage.send(node, account, text) for text in ("one", "two", "three")]

    async def waits() -> bool:
        message = await stage.message(third.id, account, node)
        return bool(message.wait_reason == message_pb2.WAIT_REASON_SEND_LIMITS)

    await eventually(waits)
    assert (await stage.session(node, account)).risk.warm_up_day == 1
    await update(stage, node, account, "warm_up")
    await stage.until_status(node, account, third.id, message_pb2.MESSAGE_STATUS_DELIVERED)
    assert (await stage.session(node, account)).risk.warm_up_day == 0


async def test_settings_and_the_proxy_go_with_the_account_and_stay_sealed(
    stage: Stage, node: NodeProcess
) -> None:
    account = await stage.paired(node)
    message = await stage.send(node, account)
    await stage.until_status(node, account, message.id, message_pb2.MESSAGE_STATUS_DELIVERED)
    before = (await stage.session(node, account)).risk
    assert before.unknown_recipient_share == 1.0
    async with proxy_server("anna:secret") as server:
        await update(stage, node, account, auto_read=True, proxy_url=server.url("socks5"))
        await eventually(lambda: server.targets)
        stored = await stage.database.fetchval(
            "SELECT settings FROM session WHERE account = $1", account.uuid
        )
        assert b"secret" not in stored
        other = await stage.start_node(MESH_SESSION_PROXY_PRIVATE_ADDRESSES="true")
        await node.stop()

        await stage.until_state(other, account, pb.SESSION_STATE_CONNECTED)
        shown = await read(stage, other, account)
        assert (shown.auto_read, shown.has_proxy) == (True, True)
        assert len(server.targets) >= 2, "the new owner connects through it, too"

        async def recalled() -> bool:
            return bool((await stage.session(other, account)).risk == before)

        await eventually(recalled)
