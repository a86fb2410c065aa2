"""The xDS transport of a whole mesh: `mesh xds-bootstrap`, and a stock gRPC channel to xds:///sessionmesh."""

from __future__ import annotations

import json
import re
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sessionmesh.admin.v1 import fleet_pb2
from sessionmesh.v1 import account_pb2, message_pb2
from tests.support.eventually import eventually
from tests.support.mesh_api import Caller, Tenant
from tests.support.mesh_process import MeshProcess, run_mesh, run_mesh_here
from tests.support.xds_caller import Report, XdsCaller

SERVED = re.compile(r'rpc_server_call_duration_seconds_count\{rpc_method="[\w.]+/SendMessage",.*\} (\S+)')
ACCOUNTS = 4


@pytest.fixture
def printed(mesh: MeshProcess) -> dict[str, Any]:
    """The bootstrap file of the mesh."""
    done = run_mesh_here("--state", str(mesh.state), "xds-bootstrap")
    assert (done.exit_code, done.stderr) == (0, "")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def served_by_router(mesh: MeshProcess) -> float:
    """How many SendMessage calls the router has served."""
    with urllib.request.urlopen(f"http://{mesh.file.parts['router'].metrics}/metrics") as page:
        return sum(float(found) for found in SERVED.findall(page.read().decode()))


async def until(calling: XdsCaller, condition: Callable[[Report], bool], what: str) -> list[Report]:
    reports = []

    async def look() -> bool:
        reports.append(await calling.report())
        return condition(reports[-1])

    await eventually(look, 60, what)
    return reports


async def test_messages_go_straight_to_the_owner(
    mesh: MeshProcess,
    tenant: Tenant,
    account: account_pb2.Account,
    printed: dict[str, Any],
    tmp_path: Path,
) -> None:
    before = served_by_router(mesh)
    async with XdsCaller(printed, tmp_path, [account.id], key=tenant.caller.key, sends=True) as calling:
        reports = await until(calling, lambda report: report.answers.get(account.id, 0) >= 3, "messages sent")
    assert not any(report.failures for report in reports)
    assert served_by_router(mesh) == before


@pytest.mark.usefixtures("fleet_at_rest")
async def test_no_message_fails_or_is_doubled_when_an_owner_is_killed(
    mesh: MeshProcess, admin: Caller, tenant: Tenant, printed: dict[str, Any], tmp_path: Path
) -> None:
    accounts = [await tenant.caller.new_account() for _ in range(ACCOUNTS)]
    for account in accounts:
        await tenant.caller.pair(account, admin)
    names = [account.id for account in accounts]
    request = fleet_pb2.GetPlacementRequest(account_id=names[0])
    owner = (await admin(admin.fleet.GetPlacement, request)).shards[0]

    async def moved() -> bool:
        shard = (await admin(admin.fleet.GetPlacement, request)).shards[0]
        return bool(shard.incarnation) and shard.incarnation != owner.incarnation

    sending = XdsCaller(printed, tmp_path, names, key=tenant.caller.key, threads=4, sends=True)
    async with sending as calling:
        reports = await until(calling, lambda report: len(report.answers) == ACCOUNTS, "messages of all")
        killed = mesh.kill_part(owner.node_id)
        await eventually(moved, 60, "another owner")
        reports += await until(
            calling, lambda report: names[0] in report.answers, "messages of the new owner"
        )
        await eventually(lambda: mesh.file.parts[owner.node_id].pid != killed, 60, "its restart")
        await calling.pause()
        reports.append(await calling.report())
    assert [report.failures for report in reports if report.failures] == []
    sent: Counter[str] = sum((Counter(report.answers) for report in reports), Counter())
    for name in names:
        assert await stored(tenant.caller, name) == sent[name]


async def stored(caller: Caller, account_id: str) -> int:
    """How many messages the account has."""
    count, token = 0, ""
    while True:
        request = message_pb2.ListMessagesRequest(account_id=account_id, page_size=1000, page_token=token)
        page = await caller(caller.messages.ListMessages, request)
        count, token = count + len(page.messages), page.next_page_token
        if not token:
            return count


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--router", "nonsense"), "--router 'nonsense' must be host:port"),
        (("--router", "host:99999"), "--router 'host:99999' must be host:port"),
        (("--router", "h:1", "--tls-ca", "/nowhere"), "--tls-ca /nowhere: No such file or directory"),
        (("--router", "h:1", "--tls-certificate", "/c"), "--tls-key must be given too"),
        (("--router", "h:1", "--tls-certificate", "/c", "--tls-key", "/k"), "--tls-ca must be given too"),
    ],
)
def test_a_wrong_option_is_named(arguments: tuple[str, ...], problem: str) -> None:
    done = run_mesh_here("xds-bootstrap", *arguments)
    assert (done.exit_code, done.stdout) == (64, "")
    assert done.stderr.startswith(f"mesh: {problem}")


def test_without_a_mesh_it_says_so(tmp_path: Path) -> None:
    done = run_mesh("--state", str(tmp_path), "xds-bootstrap")
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr.startswith("mesh: no mesh runs on this machine")


def test_routers_and_certificates_are_what_was_given(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("ca.pem", "own.pem", "own.key")]
    for file in files:
        file.write_text("PEM")
    options = ("--tls-ca", "--tls-certificate", "--tls-key")
    given = [text for option, file in zip(options, files, strict=True) for text in (option, str(file))]
    done = run_mesh_here("xds-bootstrap", "--router", "a:1", "--router", "dns:///b:2", *given)
    document = json.loads(done.stdout)
    assert [server["server_uri"] for server in document["xds_servers"]] == ["a:1", "dns:///b:2"]
    paths = {
        "ca_certificate_file": str(files[0]),
        "certificate_file": str(files[1]),
        "private_key_file": str(files[2]),
    }
    for server in document["xds_servers"]:
        assert server["channel_creds"] == [{"type": "tls", "config": paths}]
        assert server["server_features"] == ["xds_v3"]
    provider = document["certificate_providers"]["sessionmesh"]
    assert provider["plugin_name"] == "file_watcher"
    assert paths.items() <= provider["config"].items()
    assert "locality" in document["node"]
    again = json.loads(run_mesh_here("xds-bootstrap", "--router", "a:1").stdout)
    assert again["node"]["id"] != document["node"]["id"]
