"""What a running mesh shows Prometheus is what the catalogue says: nothing else, and all of it."""

from __future__ import annotations

import asyncio
import secrets
import urllib.request
from collections.abc import Callable, Iterable
from typing import Any

import grpc.aio
from prometheus_client.metrics_core import Metric as PrometheusMetric
from prometheus_client.openmetrics import parser

from mesh_core.metrics import Kind, Metric
from sessionmesh.v1 import account_pb2, tenant_pb2
from tests.metrics_catalogue import catalogue
from tests.support.eventually import eventually
from tests.support.media_world import photograph
from tests.support.mesh_api import SCOPES, Caller, Tenant, open_caller, text_message, unique
from tests.support.mesh_process import MeshProcess

SHOWN_WITH_TLS = {"mesh_tls_certificate_expiry_timestamp_seconds"}
"""What these meshes have nothing for: shown in tests/integration/test_server_tls.py."""
SHOWN_BY_WHO_DID_IT = {"mesh_retention_held_days"}
"""Shown by the router that dropped old days last, once an hour: other tests may have killed it since."""
OF_LINKED_DEVICES = "mesh_whatsapp_web_"
Series = tuple[str, tuple[tuple[str, str], ...]]
"""A metric by its name in the catalogue, and the labels of a sample."""


async def test_a_mesh_shows_what_the_catalogue_has(
    mesh: MeshProcess,
    tenant: Tenant,
    account: account_pb2.Account,
    admin: Caller,
    record_property: Callable[[str, object], None],
) -> None:
    await _message(tenant.caller, account)
    await tenant.caller.upload(photograph(400), "picture.jpg")
    await _reach_a_limit(admin)
    wanted = {name for name in catalogue() if not name.startswith(OF_LINKED_DEVICES)}
    shown = await _shown_with(mesh, wanted - SHOWN_WITH_TLS - SHOWN_BY_WHO_DID_IT)
    undocumented = _undocumented(shown)
    record_property("metrics_undocumented", len(undocumented))
    assert not undocumented


async def test_linked_devices_show_what_the_catalogue_has(
    linked_mesh: MeshProcess, record_property: Callable[[str, object], None]
) -> None:
    async with open_caller(linked_mesh.address, linked_mesh.file.admin_key) as admin:
        _, caller = await admin.new_tenant()
        account = await caller.new_account()
        await caller.pair(account, admin)
    wanted = {name for name in catalogue() if name.startswith(OF_LINKED_DEVICES)}
    shown = await _shown_with(linked_mesh, wanted)
    undocumented = _undocumented(shown)
    record_property("metrics_undocumented", len(undocumented))
    assert not undocumented


async def test_a_hostile_tenant_makes_no_series(
    mesh: MeshProcess, tenant: Tenant, account: account_pb2.Account
) -> None:
    caller = tenant.caller
    await _message(caller, account)
    marks = [f"mark{secrets.token_hex(8)}" for _ in range(20)]
    before = await _series(mesh)
    for mark in marks:
        request = text_message(account.id, mark, external_id=mark, labels={mark: mark})
        await caller.send(request)
        for odd in (text_message(mark, mark), text_message(account.id, mark, recipient=mark)):
            await caller.refused(caller.messages.SendMessage, odd, metadata=((f"x-{mark}", mark),))
        unknown: Any = caller.channel.unary_unary(f"/{mark}.Service/{mark}")
        await _failing(unknown(b""))
        await _failing(caller.with_key(mark).messages.SendMessage(text_message(account.id)))
    made = await _series(mesh) - before
    assert not [series for series in made if any(mark in str(series) for mark in marks)]
    # what is left is of what the mesh does beside, and is bounded by the catalogue
    assert not _undocumented(made)
    assert len(made) < len(marks) * 2


async def _message(caller: Caller, account: account_pb2.Account) -> None:
    sent = await caller.send(text_message(account.id))
    await caller.until_delivered(account.id, sent.id)


async def _reach_a_limit(admin: Caller) -> None:
    settings = tenant_pb2.TenantSettings(max_accounts=0)
    tenant = tenant_pb2.Tenant(external_id=unique("tenant"), settings=settings)
    made = await admin(
        admin.tenants.CreateTenant, tenant_pb2.CreateTenantRequest(request_id=unique(), tenant=tenant)
    )
    key = tenant_pb2.CreateApiKeyRequest(request_id=unique(), tenant_id=made.tenant.id, scopes=SCOPES)
    caller = admin.with_key((await admin(admin.tenants.CreateApiKey, key)).secret)
    account = account_pb2.Account(phone=f"+4915{secrets.randbelow(10**9):09}")
    request = account_pb2.CreateAccountRequest(request_id=unique(), account=account)
    assert (await caller.refused(caller.accounts.CreateAccount, request)).reason == "QUOTA_EXCEEDED"


async def _failing(call: object) -> None:
    try:
        await call  # type: ignore[misc]  # a call of grpc.aio
    except grpc.aio.AioRpcError:
        return
    raise AssertionError("it was answered OK")


async def _shown_with(mesh: MeshProcess, names: set[str]) -> set[Series]:
    """What the mesh shows once it shows all of these metrics."""
    shown: set[Series] = set()
    missing = set(names)

    async def all_of_them() -> bool:
        nonlocal shown, missing
        shown = await _series(mesh)
        missing = names - {name for name, _ in shown}
        return not missing

    try:
        await eventually(all_of_them, seconds=40.0)
    except (AssertionError, TimeoutError) as error:
        raise AssertionError(f"documented and not shown: {sorted(missing)}") from error
    return shown


def _undocumented(shown: Iterable[Series]) -> list[str]:
    """Series that the catalogue does not allow."""
    metrics = catalogue()
    return sorted(
        f"{name}{dict(labels)}"
        for name, labels in shown
        if name not in metrics or not _allows(metrics[name], dict(labels))
    )


def _allows(metric: Metric, labels: dict[str, str]) -> bool:
    return labels.keys() == metric.labels.keys() and all(
        metric.allows(label, value) for label, value in labels.items()
    )


async def _series(mesh: MeshProcess) -> set[Series]:
    """Every series that any part of the mesh shows."""
    pages = [part.metrics for part in mesh.file.parts.values() if part.metrics]
    found = await asyncio.gather(*(asyncio.to_thread(_of_page, page) for page in pages))
    return set().union(*found)


def _of_page(page: str) -> set[Series]:
    request = urllib.request.Request(
        f"http://{page}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read().decode()
    families: Callable[[str], Iterable[PrometheusMetric]] = parser.text_string_to_metric_families
    return {
        (_ENDINGS.get(family.type, "{}").format(family.name), _labels(family.type, sample.labels))
        for family in families(text)
        for sample in family.samples
    }


def _labels(kind: str, labels: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(
        sorted((name, value) for name, value in labels.items() if kind != "histogram" or name != "le")
    )


_ENDINGS = {Kind.COUNTER.value: "{}_total", Kind.INFO.value: "{}_info"}
"""How the name of a family of OpenMetrics ends as a metric's of Prometheus."""
