"""The mesh behind PgBouncer in transaction mode: only the journal and LISTEN go past it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from mesh_cli.embedded import free_port
from tests.support.eventually import wait_until
from tests.support.mesh_api import open_caller, text_message
from tests.support.mesh_process import MeshProcess
from tests.support.tools import missing_tool


@pytest.fixture
def bouncer_url(tmp_state: Path, empty_database_url: str) -> Iterator[str]:
    """`empty_database_url` through PgBouncer."""
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if program is None:
        missing_tool("pgbouncer is not here: install the package pgbouncer")
    server, port = urlsplit(empty_database_url), free_port()
    configuration = tmp_state / "pgbouncer.ini"
    configuration.write_text(
        f"""[databases]
* = host={server.hostname} port={server.port} user={server.username} password={server.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
"""
    )
    tmp_state.chmod(0o755)
    as_user = ["-u", "nobody"] if os.geteuid() == 0 else []
    with (tmp_state / "pgbouncer.log").open("wb") as log:
        process = subprocess.Popen([program, "-q", *as_user, str(configuration)], stdout=log, stderr=log)
    wait_until(lambda: _listens(port), what="PgBouncer")
    yield urlunsplit(server._replace(netloc=f"anybody@127.0.0.1:{port}"))
    process.terminate()
    process.wait()


async def test_a_message_is_delivered(tmp_state: Path, bouncer_url: str, empty_database_url: str) -> None:
    environment = {
        "MESH_DATABASE_URL": bouncer_url,
        "MESH_DATABASE_DIRECT_URL": empty_database_url,
        "MESH_DATABASE_PGBOUNCER": "true",
    }
    mesh = MeshProcess(tmp_state / "state", nodes=1, environment=environment)
    try:
        file = mesh.start()
        async with open_caller(file.address, file.admin_key) as admin:
            _, customer = await admin.new_tenant()
            account = await customer.new_account()
            await customer.pair(account, admin)
            message = await customer.send(text_message(account.id))
            await customer.until_delivered(account.id, message.id)
        assert mesh.stop().code == 0, mesh.report()
    finally:
        mesh.ensure_gone()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
