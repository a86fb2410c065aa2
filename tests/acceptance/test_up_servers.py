"""`mesh up` in a hostile environment, whose embedded servers are killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.eventually import eventually
from tests.support.mesh_api import open_caller, text_message
from tests.support.mesh_process import MeshProcess, run_mesh

NOWHERE = "http://127.0.0.1:1"
MISLEADING = {
    "http_proxy": NOWHERE,
    "HTTPS_PROXY": NOWHERE,
    "grpc_proxy": NOWHERE,
    "PGHOST": "nowhere.invalid",
    "PGSSLMODE": "verify-full",
    "ETCD_NAME": "other",
    "ETCD_LISTEN_CLIENT_URLS": "http://192.0.2.1:1",
    "SSL_CERT_FILE": "/nowhere",
    "AWS_ENDPOINT_URL": NOWHERE,
    "PYTHONOPTIMIZE": "2",
}
SERVERS = {"etcd": {"etcd"}, "redis": {"valkey-server", "redis-server"}, "postgres": {"postgres"}}
"""The names of their programs."""


@pytest.fixture
def misled_mesh(tmp_state: Path) -> Iterator[MeshProcess]:
    """A mesh with servers of its own, whatever the tests use."""
    own = MeshProcess(tmp_state / "state", nodes=1, environment=MISLEADING)
    yield own
    own.ensure_gone()


async def test_it_works_whatever_its_caller_has_in_the_environment_and_goes_on_when_its_servers_are_killed(
    misled_mesh: MeshProcess,
) -> None:
    file = misled_mesh.start()
    called = run_mesh("--state", str(misled_mesh.state), "tenant", "create", "acme", seconds=60, **MISLEADING)
    assert called.returncode == 0, called.stderr
    async with open_caller(file.address, file.admin_key) as admin:
        _, customer = await admin.new_tenant()
        account = await customer.new_account()
        await customer.pair(account, admin)
        for name in SERVERS:
            await _kill_and_await(misled_mesh, name)
        await customer.until_online(account.id)
        message = await customer.send(text_message(account.id))
        await customer.until_delivered(account.id, message.id)
    assert "postgres ended with status -9; it is being started again" in misled_mesh.output
    assert misled_mesh.stop().code == 0, misled_mesh.report()


async def _kill_and_await(mesh: MeshProcess, name: str) -> None:
    (server,) = [one for one in psutil.Process(mesh.process.pid).children() if one.name() in SERVERS[name]]
    server.kill()
    await eventually(lambda: f"{name} is back after" in mesh.output, seconds=60, what=f"another {name}")
