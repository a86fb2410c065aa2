"""A message's whole life through a real node: accepted, stored, sent, acknowledged, receipted, told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sessionmesh.v1 import message_pb2
from tests.integration.session_node_stage import Stage, eventually, open_stage


@pytest.fixture
async def stage(postgres_url: str, etcd: str, cluster: str, tmp_path: Path) -> AsyncIterator[Stage]:
    async with open_stage(postgres_url, etcd, cluster, tmp_path) as opened:
        yield opened


async def test_a_message_is_stored_then_delivered_with_an_event_for_each_step(stage: Stage) -> None:
    node = await stage.start_node()
    account = await stage.paired(node)

    message = await stage.send(node, account, "hello")

    assert message.status == message_pb2.MESSAGE_STATUS_QUEUED
    assert message.network_message_id
    await stage.until_status(node, account, message.id, message_pb2.MESSAGE_STATUS_DELIVERED)

    async def steps() -> bool:
        types = [type_ for type_, _ in await stage.events(account) if type_.startswith("message.")]
        return types == ["message.queued", "message.sent", "message.delivered"]

    await eventually(steps)
