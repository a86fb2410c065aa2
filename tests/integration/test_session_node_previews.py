"""Texts that ask for a preview of their link, through a real node, the simulated network and a web server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from sessionmesh.v1 import content_pb2, event_pb2, message_pb2
from tests.support.eventually import eventually
from tests.support.session_node_stage import (
    Account,
    NodeProcess,
    Stage,
    open_stage,
    text_request,
)

PAGE = "<title>Tea</title><meta name=description content='All of it'>"


@pytest.fixture
async def stage(postgres_url: str, etcd: str, tmp_path: Path) -> AsyncIterator[Stage]:
    async with open_stage(postgres_url, etcd, tmp_path) as opened:
        yield opened


@pytest.fixture
async def asked() -> list[str]:
    """The paths that the site was asked for."""
    return []


@pytest.fixture
async def site(asked: list[str]) -> AsyncIterator[str]:
    """The address of a web server on loopback."""

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(text=PAGE, content_type="text/html")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def sent_and_received(stage: Stage, node: NodeProcess, link: str) -> content_pb2.TextContent:
    """What arrives of a text with a link that asks for a preview."""
    sender, receiver = await stage.paired(node), await stage.paired(node)
    request = text_request(sender, f"Tea? {link}!", wait_for=message_pb2.WAIT_FOR_SENT)
    request.recipient = f"phone:{receiver.phone}"
    request.content.text.preview_mode = content_pb2.LINK_PREVIEW_MODE_AUTO
    answer = await node.messages.SendMessage(request, metadata=stage.metadata)
    assert answer.message.status == message_pb2.MESSAGE_STATUS_SENT
    return await eventually(lambda: received(stage, receiver))


async def received(stage: Stage, account: Account) -> content_pb2.TextContent | None:
    for type_, body in await stage.events(account):
        if type_ == "message.received":
            return event_pb2.Event.FromString(body).message.message.content.text
    return None


@pytest.mark.slow
async def test_a_text_arrives_with_what_its_page_says(stage: Stage, site: str) -> None:
    node = await stage.start_node(MESH_SESSION_PREVIEW_PRIVATE_ADDRESSES="true")
    text = await sent_and_received(stage, node, f"{site}/tea")
    assert text.preview == content_pb2.LinkPreview(url=f"{site}/tea", title="Tea", description="All of it")


@pytest.mark.slow
async def test_a_page_in_the_meshs_own_network_is_not_read_and_the_text_arrives_without(
    stage: Stage, site: str, asked: list[str]
) -> None:
    node = await stage.start_node()
    text = await sent_and_received(stage, node, f"{site}/tea")
    assert text.body == f"Tea? {site}/tea!"
    assert not text.HasField("preview")
    assert asked == []
