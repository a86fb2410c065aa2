"""What a tenant uses is counted by every part, and shown to it by day."""

from __future__ import annotations

import json
from collections.abc import Iterable

from mesh_cli.demo.receiver import Receiver
from mesh_core.usage.counts import COLUMNS
from sessionmesh.v1 import account_pb2, media_pb2, tenant_pb2
from tests.support.eventually import eventually
from tests.support.mesh_api import Tenant, text_message
from tests.support.mesh_process import MeshProcess, run_mesh_here

FILE = b"%PDF-1.4 " + b"x" * 5000


async def test_messages_media_and_webhooks_are_counted(
    mesh: MeshProcess, tenant: Tenant, account: account_pb2.Account
) -> None:
    caller = tenant.caller
    stored = await caller.upload(FILE, "a.pdf")
    frames = caller.media.DownloadMedia(
        media_pb2.DownloadMediaRequest(media_id=stored.id), metadata=caller.metadata, timeout=30
    )
    read = sum([len(frame.chunk) async for frame in frames])
    async with Receiver() as receiver:
        await caller.new_endpoint(receiver.url, "message.*")
        for _ in range(3):
            message = await caller.send(text_message(account.id))
            await caller.until_delivered(account.id, message.id)

        async def counted() -> tenant_pb2.TenantDayUsage | None:
            answer = await caller(caller.tenants.GetTenantUsage, tenant_pb2.GetTenantUsageRequest())
            total = total_of(answer.days)
            whole = total.messages_sent >= 3 and total.media_downloaded_bytes and total.webhook_attempts >= 3
            return total if whole else None

        total = await eventually(counted, seconds=40.0, what="all of it, written by every part")
    assert total.messages_sent == 3
    assert total.media_uploaded_bytes == len(FILE)
    assert total.media_downloaded_bytes == read == len(FILE)
    printed = run_mesh_here("--state", str(mesh.state), "tenant", "usage", tenant.id, "--json")
    assert printed.exit_code == 0, printed.stderr
    lines = [json.loads(line) for line in printed.stdout.splitlines()]
    assert sum(int(line["messages_sent"]) for line in lines) == 3


def total_of(days: Iterable[tenant_pb2.TenantDayUsage]) -> tenant_pb2.TenantDayUsage:
    """Of today, and of yesterday where midnight has passed."""
    total = tenant_pb2.TenantDayUsage()
    for day in days:
        for name in COLUMNS:
            setattr(total, name, getattr(total, name) + getattr(day, name))
    return total
