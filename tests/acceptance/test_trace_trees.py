"""What a mesh sends to an OTLP server: the whole tree of each path, through all processes."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest
import pyvips

from mesh_cli.demo.receiver import Receiver
from mesh_core.ids import shard_of
from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.simnet.v1 import wire_pb2
from sessionmesh.simulator.v1 import simulator_pb2
from sessionmesh.v1 import account_pb2, chat_pb2, message_pb2, session_pb2
from tests.support.eventually import eventually
from tests.support.mesh_api import Caller, open_caller, text_message, unique
from tests.support.mesh_process import MeshProcess
from tests.support.otlp_receiver import OtlpReceiver, ReceivedSpan, otlp_receiver

SOMEBODY = "phone:+4915112345678"
API = "sessionmesh.v1"
MESSAGE = ("mesh.driver.receipt", "mesh.driver.send", "mesh.journal.commit")
"""Below the span of its acceptance."""


@pytest.fixture(scope="module")
def received() -> Iterator[OtlpReceiver]:
    """What the mesh of this module recorded."""
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def traced_mesh(
    received: OtlpReceiver, module_servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MeshProcess]:
    """Two nodes, which record every trace."""
    telemetry = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": received.endpoint,
        "MESH_TELEMETRY_SAMPLE_RATIO": "1",
        "MESH_SESSION_FAILURES_PER_HOUR": "100",
    }
    state = tmp_path_factory.mktemp("traced") / "state"
    running = MeshProcess(state, nodes=2, environment=module_servers | telemetry)
    try:
        running.start()
        yield running
    finally:
        running.ensure_gone()


@pytest.fixture
async def admin(traced_mesh: MeshProcess) -> AsyncIterator[Caller]:
    async with open_caller(traced_mesh.address, traced_mesh.file.admin_key) as caller:
        yield caller


@pytest.fixture
async def caller(admin: Caller) -> Caller:
    return (await admin.new_tenant())[1]


@pytest.fixture
async def account(admin: Caller, caller: Caller) -> account_pb2.Account:
    made = await caller.new_account()
    await caller.pair(made, admin)
    return made


@pytest.fixture
async def endpoint(caller: Caller) -> AsyncIterator[Receiver]:
    """A webhook endpoint that gets all events of messages and sessions."""
    async with Receiver() as receiver:
        receiver.secret = await caller.new_endpoint(receiver.url, "message.*", "media.*")
        yield receiver


async def test_a_text_from_the_call_to_its_webhooks(
    received: OtlpReceiver, caller: Caller, account: account_pb2.Account, endpoint: Receiver
) -> None:
    trace = await send(caller, text_message(account.id))
    call = f"{API}.MessageService/SendMessage"
    told = ["mesh.webhook.deliver", "mesh.webhook.fan_out"]
    whole = [
        f"router {call}",
        f"  session-node {call}",
        "    session-node mesh.node.accept",
        *[f"      session-node {name}" for name in MESSAGE],
        *[f"      webhook {name}" for name in told for _ in ("queued", "sent", "delivered")],
    ]
    await until_outline(received, trace, whole)
    by_name = {span.name: span for span in received.spans("", trace)}
    assert by_name["mesh.driver.send"].kind == "producer"
    assert by_name["mesh.webhook.deliver"].attributes["http.response.status_code"] == 204
    assert_batched(received, by_name["mesh.journal.commit"], "mesh.journal.batch")
    assert_batched(received, by_name["mesh.webhook.fan_out"], "mesh.webhook.batch")


async def test_a_picture_is_prepared_in_the_trace_of_its_message(
    received: OtlpReceiver, caller: Caller, account: account_pb2.Account
) -> None:
    media = await caller.upload(picture(), "picture.png")
    request = text_message(account.id)
    request.content.image.media.media_id = media.id
    trace = await send(caller, request)
    call = f"{API}.MessageService/SendMessage"
    whole = [
        f"router {call}",
        f"  session-node {call}",
        "    session-node mesh.node.accept",
        *[f"      session-node {name}" for name in MESSAGE],
        "      session-node mesh.node.prepare",
        f"        media {API}.MediaService/DownloadMedia",
        "          media mesh.media.download",
        f"    media {API}.MediaService/GetMedia",
    ]
    await until_outline(received, trace, whole)


async def test_a_message_that_came_with_a_picture(
    received: OtlpReceiver, admin: Caller, account: account_pb2.Account, endpoint: Receiver
) -> None:
    data = picture()
    put = await admin(admin.simulator.PutNetworkBlob, simulator_pb2.PutNetworkBlobRequest(data=data))
    blob = wire_pb2.Blob(ref=put.ref, sha256=put.sha256, size=len(data), shown_as="image")
    encoded = wire_pb2.Content(blob=blob).SerializeToString()
    came = simulator_pb2.InjectMessageRequest(phone=account.phone, sender=SOMEBODY, encoded=encoded)
    await admin(admin.simulator.InjectMessage, came)
    first = await until_span(received, "mesh.driver.receive", mesh_account_id=account.id)
    whole = [
        "session-node mesh.driver.receive",
        "  session-node mesh.journal.commit",
        "  session-node mesh.node.fetch_media",
        f"    media {API}.MediaService/LookupMedia",
        f"    media {API}.MediaService/UploadMedia",
        "      media mesh.media.upload",
        "        media mesh.media.process",
        "        media mesh.media.store",
        "        media mesh.media.turn",
        *["  webhook mesh.webhook.deliver"] * 2,
        *["  webhook mesh.webhook.fan_out"] * 2,
    ]
    await until_outline(received, first.trace, whole)


async def test_pairing_and_the_connection_that_it_leads_to(
    received: OtlpReceiver, account: account_pb2.Account
) -> None:
    pairing = await until_span(received, "mesh.session.pair", mesh_account_id=account.id)
    whole = [
        f"router {API}.SessionService/Pair",
        f"  session-node {API}.SessionService/Pair",
        "    session-node mesh.session.connect",
        "    session-node mesh.session.pair",
    ]
    await until_outline(received, pairing.trace, whole)


async def test_an_outage_until_the_account_is_back(
    received: OtlpReceiver, admin: Caller, caller: Caller, account: account_pb2.Account
) -> None:
    drop = simulator_pb2.InjectFaultRequest(
        kind=simulator_pb2.FAULT_KIND_DROP_CONNECTION, phone=account.phone
    )
    await admin(admin.simulator.InjectFault, drop)
    outage = await until_span(received, "mesh.session.outage", mesh_account_id=account.id)
    assert outage.failed
    assert outage.attributes["mesh.session.cause"] == "CONNECTION_LOST"
    whole = ["session-node mesh.session.outage", "  session-node mesh.session.connect"]
    await until_outline(received, outage.trace, whole)


async def test_a_drain_moves_a_shard_in_one_trace_of_both_nodes(
    received: OtlpReceiver, admin: Caller, caller: Caller, account: account_pb2.Account
) -> None:
    before = await owner(caller, account)
    drain = fleet_pb2.DrainNodeRequest(request_id=unique(), node_id=before.node_id, force=True)
    await admin(admin.fleet.DrainNode, drain)
    move = await until_moved(received, caller, account, before)
    whole = [
        "session-node mesh.ownership.move",
        "  session-node mesh.ownership.fence",
        "  session-node mesh.ownership.load",
        "  session-node mesh.ownership.release",
        "  session-node mesh.session.connect",
    ]
    await until_outline(received, move.trace, whole)
    assert move.attributes["mesh.shard.reason"] == "draining"
    [release] = received.spans("mesh.ownership.release", move.trace)
    assert release.attributes["mesh.node.id"] == before.node_id
    assert release.instance != move.instance
    await assert_planned(received, move)
    job = (await until_span(received, "mesh.job", mesh_job_kind="DRAIN_NODE")).trace
    await admin(admin.fleet.UndrainNode, fleet_pb2.UndrainNodeRequest(node_id=before.node_id))
    await until_outline(received, job, ["router mesh.job", "  router mesh.job.end"])


async def test_a_failover_is_one_trace_and_a_message_goes_on_in_its_own(
    traced_mesh: MeshProcess,
    received: OtlpReceiver,
    caller: Caller,
    account: account_pb2.Account,
    endpoint: Receiver,
) -> None:
    before = await owner(caller, account)
    trace_before = await send(caller, text_message(account.id))
    traced_mesh.kill_part(before.node_id)
    trace_after = await send(caller, text_message(account.id))
    move = await until_moved(received, caller, account, before)
    whole = [
        "session-node mesh.ownership.move",
        "  session-node mesh.ownership.fence",
        "  session-node mesh.ownership.load",
        "  session-node mesh.session.connect",
    ]
    await until_outline(received, move.trace, whole)

    def told() -> bool:
        return all(
            {"router", "session-node", "webhook"} <= {line.split()[0] for line in received.outline(trace)}
            for trace in (trace_before, trace_after)
        )

    await eventually(told, 30, "the messages' traces")


async def test_a_job_is_one_trace_that_links_to_its_call(
    received: OtlpReceiver, caller: Caller, account: account_pb2.Account
) -> None:
    trace = secrets.token_hex(16)
    asked = chat_pb2.SyncHistoryRequest(account_id=account.id, request_id=unique())
    answer = await caller(caller.chats.SyncHistory, asked, metadata=traced(trace))
    job = await until_span(received, "mesh.job", mesh_job_id=answer.job.id)
    assert {linked for linked, _ in job.links} == {trace}
    whole = [
        "session-node mesh.job",
        "  session-node mesh.job.end",
        "  session-node mesh.job.turn",
    ]
    await until_outline(received, job.trace, whole)


def picture() -> bytes:
    """A PNG that no other test has: equal files are stored once."""
    noise = pyvips.Image.gaussnoise(64, 64, seed=secrets.randbelow(2**31)).cast("uchar")
    data: bytes = noise.pngsave_buffer()
    return data


async def send(caller: Caller, request: message_pb2.SendMessageRequest) -> str:
    """Send a message in a trace of ours, and wait until it is delivered; the trace's id."""
    trace = secrets.token_hex(16)
    answer = await caller(caller.messages.SendMessage, request, metadata=traced(trace))
    await caller.until_delivered(answer.message.account_id, answer.message.id)
    return trace


def traced(trace: str) -> tuple[tuple[str, str], ...]:
    return (("traceparent", f"00-{trace}-{secrets.token_hex(8)}-01"),)


async def owner(caller: Caller, account: account_pb2.Account) -> session_pb2.Session:
    """The account's session, with the node that runs it, and the epoch."""
    request = session_pb2.GetSessionRequest(account_id=account.id)
    session: session_pb2.Session = (await caller(caller.sessions.GetSession, request)).session
    return session


async def until_span(received: OtlpReceiver, name: str, **attributes: str | int) -> ReceivedSpan:
    """The latest span of that kind."""

    def found() -> ReceivedSpan | None:
        return next(reversed(received.spans(name, "", **attributes)), None)

    return await eventually(found, 30, name)


async def until_moved(
    received: OtlpReceiver, caller: Caller, account: account_pb2.Account, before: session_pb2.Session
) -> ReceivedSpan:
    """The move that ended the tenure `before`."""

    async def moved() -> session_pb2.Session | None:
        session = await owner(caller, account)
        return session if session.epoch > before.epoch else None

    session = await eventually(moved, 60, "another owner")
    here: dict[str, str | int] = {"mesh_shard": shard_of(account.id), "mesh_shard_epoch": session.epoch}
    return await until_span(received, "mesh.ownership.move", **here)


async def until_outline(received: OtlpReceiver, trace: str, whole: list[str]) -> None:
    """Wait until the trace is this tree, and nothing else."""
    with suppress(AssertionError):
        await eventually(lambda: received.outline(trace) == whole, 30, "the tree")
    assert received.outline(trace) == whole


def assert_batched(received: OtlpReceiver, part: ReceivedSpan, name: str) -> None:
    """It links to a batch, which links back to what it is part of."""
    [(trace, span)] = part.links
    [batch] = [one for one in received.spans(name, trace) if one.id == span]
    assert (part.trace, part.parent) in batch.links


async def assert_planned(received: OtlpReceiver, move: ReceivedSpan) -> None:
    """It links to the plan that moved the shard."""
    [(trace, span)] = move.links

    def planned() -> bool:
        return [plan.id for plan in received.spans("mesh.ownership.plan", trace)] == [span]

    await eventually(planned, 30, "the plan")
