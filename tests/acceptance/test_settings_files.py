"""A mesh starts with the settings for each size: accounts connect, and a message is delivered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh_cli.plan.deployments import SIZES
from sessionmesh.admin.v1 import fleet_pb2
from tests.support.mesh_api import open_caller, text_message
from tests.support.mesh_process import MeshProcess
from tests.support.settings_files import settings_of

ACCOUNTS = 3
LONG = [pytest.mark.timed, pytest.mark.long]


@pytest.fixture(params=[pytest.param(size, marks=[] if size == SIZES[0] else LONG) for size in SIZES])
def sized(
    request: pytest.FixtureRequest, tmp_state: Path, external_servers: dict[str, str]
) -> Iterator[tuple[MeshProcess, dict[str, str]]]:
    """A mesh of one node with the settings of a size, and these."""
    given = settings_of(request.param)
    own = MeshProcess(tmp_state / "state", nodes=1, environment=external_servers | given)
    yield own, given
    own.ensure_gone()


async def test_a_mesh_starts_with_the_settings_and_delivers(
    sized: tuple[MeshProcess, dict[str, str]],
) -> None:
    mesh, given = sized
    started = mesh.start()
    async with open_caller(started.address, started.admin_key) as admin:
        capacity = await admin(admin.fleet.GetCapacity, fleet_pb2.GetCapacityRequest())
        assert capacity.max == int(given["MESH_NODE_CAPACITY"])
        _, customer = await admin.new_tenant()
        accounts = [await customer.new_account() for _ in range(ACCOUNTS)]
        for account in accounts:
            await customer.pair(account, admin)
        sent = [await customer.send(text_message(account.id)) for account in accounts]
        for account, message in zip(accounts, sent, strict=True):
            await customer.until_delivered(account.id, message.id)
    assert mesh.stop().code == 0, mesh.report()
