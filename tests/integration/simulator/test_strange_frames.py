"""What a network sends that no client expects: the driver passes it over, and its connection stands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from mesh_core.errors import FailedPrecondition
from mesh_core.framing import FrameDecoder, encode
from mesh_session_node.drivers.interface.content import OutgoingMessage
from mesh_session_node.drivers.interface.outcomes import ConnectionEnded, End
from mesh_session_node.drivers.simulated.driver import SimulatedDriver
from mesh_session_node.drivers.simulated.link import MAX_INCOMING_BYTES, SimulatedLink
from mesh_session_node.drivers.simulated.state import SimulatedState, StoredState
from sessionmesh.simnet.v1 import wire_pb2 as wire
from tests.support.eventually import eventually
from tests.support.link_events import RecordedEvents
from tests.support.recorded_rows import RecordedRows
from tests.support.simulated_network import SOMEBODY

GOOD = wire.Frame(inbound=wire.Inbound(id="GOOD", sender=SOMEBODY, chat=SOMEBODY, time_us=1))
LATE = 2**64 - 1
STRANGE = {
    "no frame": b"\xff\xff\xff",
    "too large": bytes(MAX_INCOMING_BYTES + 1),
    "an empty frame": b"",
    "a restriction for ever": wire.Frame(
        restrictions=wire.Restrictions(restrictions=[wire.Restriction(until_us=LATE, remaining=LATE)])
    ).SerializeToString(),
    "times beyond all bounds": wire.Frame(ack=wire.Ack(id="A", time_us=LATE)).SerializeToString(),
    "an unknown receipt": wire.Frame(receipt=wire.Receipt(id="A", kind=99)).SerializeToString(),  # type: ignore[arg-type]  # that is the point
    "a content that is none": wire.Frame(
        inbound=wire.Inbound(id="X", content=b"\xff\xff", sender="nobody", chat="\0")
    ).SerializeToString(),
}


class Strange:
    """A network that logs everybody in, and then sends what it is told to."""

    def __init__(self) -> None:
        self.writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        decoder = FrameDecoder()
        while data := await reader.read(65536):
            for body in decoder.feed(data):
                if wire.Frame.FromString(body).HasField("login"):
                    writer.write(encode(wire.Frame(login_ok=wire.LoginOk()).SerializeToString()))
                    self.writer = writer
        writer.close()

    def send(self, *bodies: bytes) -> None:
        assert self.writer is not None
        self.writer.write(b"".join(encode(body) for body in bodies))


@pytest.fixture
async def strange() -> AsyncIterator[tuple[Strange, SimulatedLink, RecordedEvents]]:
    network, events = Strange(), RecordedEvents()
    server = await asyncio.start_server(network.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    state = SimulatedState(StoredState("1", b"secret", "+10000001", "", "", 0))
    state.confirm(state.reserve(10))
    link = await SimulatedDriver(f"{host}:{port}").connect(state, RecordedRows(), events)
    yield network, link, events
    link.abort()
    server.close()


@pytest.mark.parametrize("kind", STRANGE)
async def test_a_strange_frame_is_passed_over_and_the_next_one_read(
    strange: tuple[Strange, SimulatedLink, RecordedEvents], kind: str
) -> None:
    network, link, events = strange
    network.send(STRANGE[kind], GOOD.SerializeToString())
    await eventually(lambda: "GOOD" in [message.network_id for message in events.incoming])
    assert link.ended is None


async def test_a_refusal_of_an_unknown_kind_ends_the_login() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        refused = wire.LoginRefused(reason=99)  # type: ignore[arg-type]  # that is the point
        writer.write(encode(wire.Frame(login_refused=refused).SerializeToString()))

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    state = SimulatedState(StoredState("1", b"secret", "+10000001", "", "", 0))
    with pytest.raises(ConnectionEnded) as ended:
        async with asyncio.timeout(5):
            await SimulatedDriver(f"{host}:{port}").connect(state, RecordedRows(), RecordedEvents())
    assert ended.value.end is End.REFUSED
    server.close()


async def test_a_message_larger_than_a_frame_is_not_sent(
    strange: tuple[Strange, SimulatedLink, RecordedEvents],
) -> None:
    _, link, _ = strange
    with pytest.raises(FailedPrecondition):
        link.send(OutgoingMessage("M1", SOMEBODY, bytes(1_100_000)))
    assert link.ended is None
