"""What the cases of the driver contract are written with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from mesh_session_node.drivers.interface.capabilities import Capability
from mesh_session_node.drivers.interface.content import OutgoingMessage, References
from mesh_session_node.drivers.interface.driver import Link
from sessionmesh.v1 import content_pb2, message_pb2
from tests.support.driver_capabilities import Can
from tests.support.driver_worlds import DriverWorld
from tests.support.eventually import eventually

PERSON = "phone:+4915112345678"
Connect = Callable[[], Awaitable[Link]]


def needs(*wanted: Can | Capability) -> pytest.MarkDecorator:
    """A case that is only for networks that have this."""
    return pytest.mark.needs(*wanted)


def text(to: str = PERSON) -> message_pb2.SendMessageRequest:
    return message_pb2.SendMessageRequest(
        recipient=to,
        content=content_pb2.Content(text=content_pb2.TextContent(body="hello")),
    )


def send(world: DriverWorld, link: Link, network_id: str, to: str = PERSON) -> None:
    payload, blobs = world.driver.encode(text(to), References(), None)
    link.send(OutgoingMessage(network_id, to, payload, blobs))


async def until(world: DriverWorld, condition: Callable[[], object]) -> None:
    """The network answers until this is so: what is sent may leave only once its rows are stored."""

    async def met() -> bool:
        await world.answer()
        return bool(condition())

    await eventually(met)


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece
