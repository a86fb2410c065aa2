"""Meshes that tests of this folder share, and callers of them."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sessionmesh.v1 import account_pb2
from tests.acceptance.fleet_at_rest import settled
from tests.support.eventually import eventually
from tests.support.mesh_api import Caller, Tenant, open_caller
from tests.support.mesh_process import MeshProcess
from tests.support.tools import missing_tool
from tests.support.whatsapp_web_world import is_built

NO_LIMITS = {
    "MESH_LIMITS_ACCOUNT": "",
    "MESH_LIMITS_TENANT": "",
    "MESH_SESSION_SEND_PER_MINUTE": "100000",
    "MESH_SESSION_SEND_PER_HOUR": "100000",
    "MESH_SESSION_SEND_PER_DAY": "100000",
    "MESH_SESSION_ACTS_PER_MINUTE": "100000",
    "MESH_SESSION_ACTS_PER_HOUR": "100000",
}


@pytest.fixture(scope="package")
def shared_servers(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """For the mesh that all tests share: `_external_servers`."""
    with _external_servers(request) as environment:
        yield environment


@pytest.fixture
def external_servers(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """For a mesh of the test's own: `_external_servers`."""
    with _external_servers(request) as environment:
        yield environment


@pytest.fixture(scope="module")
def module_servers(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """For a mesh that the tests of one module share: `_external_servers`."""
    with _external_servers(request) as environment:
        yield environment


@contextmanager
def _external_servers(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The servers of MESH_TEST_*, as `mesh up` takes them, with a database and a cluster of its own."""
    environment = {}
    if etcd := os.environ.get("MESH_TEST_ETCD"):
        environment["MESH_ETCD_ENDPOINTS"] = etcd
        environment["MESH_CLUSTER_NAME"] = f"test-{uuid.uuid4().hex[:12]}"
    if redis := os.environ.get("MESH_TEST_REDIS"):
        environment["MESH_REDIS_URL"] = redis
    if not os.environ.get("MESH_TEST_POSTGRES"):
        yield environment
        return
    databases = request.getfixturevalue("databases")
    loop = request.getfixturevalue("server_loop")
    name = loop.run(databases.create())
    yield environment | {"MESH_DATABASE_URL": databases.url(name)}
    loop.run(databases.drop(name))


@pytest.fixture(scope="package")
def mesh(shared_servers: dict[str, str]) -> Iterator[MeshProcess]:
    """A running mesh of three nodes."""
    with _running(environment=shared_servers) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def linked_mesh(request: pytest.FixtureRequest) -> Iterator[MeshProcess]:
    """A running mesh of two nodes, whose accounts are linked devices on the network that stands in for
    WhatsApp, and may send as much as they want.
    """
    if not is_built():
        missing_tool("sidecar and test network are not built: run `make whatsapp-web`")
    arguments = ("--driver", "whatsapp_web", "--fake-network")
    with (
        _external_servers(request) as environment,
        _running(*arguments, nodes=2, environment=environment | NO_LIMITS) as mesh,
    ):
        yield mesh


@contextmanager
def _running(*arguments: str, **settings: Any) -> Iterator[MeshProcess]:
    """Stopping it is a test, too: nothing stays behind."""
    folder = Path(tempfile.mkdtemp(prefix="sessionmesh-test-"))
    running = MeshProcess(folder / "state", *arguments, **settings)
    try:
        running.start()
        yield running
        report = running.report()
        ended = running.stop()
        assert ended.code == 0, report
        assert ended.left == []
        assert not (running.state / "mesh.json").exists()
    finally:
        running.ensure_gone()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def admin(mesh: MeshProcess) -> AsyncIterator[Caller]:
    """The administrator of the shared mesh."""
    async with open_caller(mesh.address, mesh.file.admin_key) as caller:
        yield caller


@pytest.fixture
async def fleet_at_rest(admin: Caller) -> AsyncIterator[None]:
    """For tests that kill or drain nodes of the shared mesh: no shard moves before them, nor after them.

    A pairing that is under way shows a new code when its shard moves, which tests need not reckon with.
    """
    await eventually(lambda: settled(admin), 60, "the fleet before the test")
    yield
    await eventually(lambda: settled(admin), 60, "the fleet as it was")


@pytest.fixture
async def tenant(admin: Caller) -> Tenant:
    """A tenant that no other test uses."""
    return Tenant(*await admin.new_tenant())


@pytest.fixture
async def account(tenant: Tenant, admin: Caller) -> account_pb2.Account:
    """An account of `tenant` that is paired and online."""
    made = await tenant.caller.new_account()
    await tenant.caller.pair(made, admin)
    return made
