"""What rules and dashboards ask for is there, in a mesh in which everything has happened once."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from aiohttp import web
from google.protobuf import duration_pb2

from sessionmesh.simulator.v1 import simulator_pb2
from sessionmesh.v1 import account_pb2, contact_pb2, media_pb2, tenant_pb2
from tests.support.alert_rules import expressions, operands
from tests.support.eventually import eventually
from tests.support.extra_part import part_with_certificate
from tests.support.mesh_api import SCOPES, Caller, Tenant, text_message, unique
from tests.support.mesh_process import MeshProcess
from tests.support.prometheus_server import PrometheusServer, node_exporter, prometheus
from tests.support.webhook_world import receiver

OF_LINKED_DEVICES = {"mesh_whatsapp_web_sidecar_up"}
"""Shown by meshes with a sidecar, as `test_metrics.py` sees: this one has none."""


@pytest.fixture
def watching(mesh: MeshProcess, tmp_path: Path) -> Iterator[PrometheusServer]:
    """A Prometheus with the rules as they are, which scrapes all parts, this machine, and a part with TLS."""
    with (
        prometheus(tmp_path / "prometheus") as watching,
        node_exporter() as machine,
        part_with_certificate(mesh, tmp_path) as extra,
    ):
        watching.watch(mesh)
        watching.targets("machine", machine)
        watching.targets("webhook", mesh.file.parts["webhook"].metrics, extra)
        yield watching


@pytest.mark.timed
@pytest.mark.long
async def test_everything_that_rules_and_panels_ask_for_is_exported(
    watching: PrometheusServer,
    admin: Caller,
    tenant: Tenant,
    account: account_pb2.Account,
    record_property: Any,
) -> None:
    await _have_everything_happen(admin, tenant.caller, account)
    asked = {operand for expression in expressions().values() for operand in operands(expression)}
    missing = asked - OF_LINKED_DEVICES

    def all_there() -> bool:
        # A page that a busy machine did not show in time is shown the next time.
        missing.difference_update([one for one in missing if watching.query(f"last_over_time({one}[5m])")])
        return not missing

    try:
        await eventually(all_there, 120, "data for every operand")
    finally:
        record_property("operands_without_data", len(missing))
        print("without data:", sorted(missing))  # noqa: T201 - pytest shows it when the test fails
    for where, expression in expressions().items():
        watching.query(expression)  # raises where Prometheus does not take it
        assert where


async def _have_everything_happen(admin: Caller, caller: Caller, account: account_pb2.Account) -> None:
    async with receiver() as takes, receiver() as refuses:
        refuses.answer = lambda _: web.Response(status=500)
        for one in (takes, refuses):
            await caller.new_endpoint(one.url, "message.*")
        message = await caller.send(text_message(account.id))
        await caller.until_delivered(account.id, message.id)
        await takes.wait_for(1)
        await refuses.wait_for(1)
    inbound = simulator_pb2.InjectMessageRequest(
        phone=account.phone, sender="phone:+4915112345678", text="Hello"
    )
    await admin(admin.simulator.InjectMessage, inbound)
    media = await caller.upload(secrets.token_bytes(100), "a.bin")
    download = media_pb2.DownloadMediaRequest(media_id=media.id)
    async for _ in caller.media.DownloadMedia(download, metadata=caller.metadata):
        pass
    numbers = contact_pb2.CheckNumbersRequest(account_id=account.id, phones=["+4915112345678"])
    for _ in range(2):
        await caller(caller.contacts.CheckNumbers, numbers)
    await _be_refused_by_a_limit(admin)
    await _be_answered_too_late(admin, caller, account)


async def _be_refused_by_a_limit(admin: Caller) -> None:
    slow = tenant_pb2.Tenant(external_id=unique(), settings=tenant_pb2.TenantSettings(calls_per_second=1))
    made = await admin(
        admin.tenants.CreateTenant,
        tenant_pb2.CreateTenantRequest(request_id=unique(), tenant=slow),
    )
    key = tenant_pb2.CreateApiKeyRequest(request_id=unique(), tenant_id=made.tenant.id, scopes=SCOPES)
    caller = admin.with_key((await admin(admin.tenants.CreateApiKey, key)).secret)

    async def refused() -> bool:
        try:
            await caller(caller.accounts.ListAccounts, account_pb2.ListAccountsRequest())
        except grpc.aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        return False

    await eventually(refused, 30, "a refusal by the tenant's limit")


async def _be_answered_too_late(admin: Caller, caller: Caller, account: account_pb2.Account) -> None:
    fault = simulator_pb2.InjectFaultRequest(
        kind=simulator_pb2.FAULT_KIND_STALL, phone=account.phone, duration=duration_pb2.Duration(seconds=5)
    )
    await admin(admin.simulator.InjectFault, fault)
    numbers = contact_pb2.CheckNumbersRequest(account_id=account.id, phones=["+4915112345679"])
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await caller(caller.contacts.CheckNumbers, numbers, timeout=2)  # shorter ones are the caller's fault
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
