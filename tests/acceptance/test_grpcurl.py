"""grpcurl, knowing nothing but the address and the key that `mesh up` printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import IO, Any

import pytest

from sessionmesh.v1 import account_pb2
from tests.support.eventually import wait_until
from tests.support.mesh_api import Tenant, unique
from tests.support.mesh_process import MeshProcess
from tests.support.tools import require_tool

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOR_TENANTS = ("webhooks.md",)
"""Pages whose commands take a tenant's key; the others' are an administrator's."""
API = "sessionmesh.v1"
SIMULATOR = "sessionmesh.simulator.v1"
PACKAGES = (API, "sessionmesh.admin.v1", SIMULATOR)
PROTOS = ROOT / "protos"


class Grpcurl:
    """The program, an address and a key."""

    def __init__(self, program: Path, mesh: MeshProcess) -> None:
        self._program = str(program)
        self._address = mesh.address
        self._key = mesh.file.admin_key

    def run(self, *arguments: str) -> str:
        ended = subprocess.run(
            [self._program, "-plaintext", *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def describe(self, symbol: str) -> str:
        return self.run(self._address, "describe", symbol)

    def services(self) -> set[str]:
        return set(self.run(self._address, "list").split())

    def call(self, method: str, package: str = API, **request: Any) -> Any:
        return json.loads(self.run(*self._call(f"{package}.{method}", request)) or "{}")

    def stream(self, method: str, **request: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self._program, "-plaintext", *self._call(f"{API}.{method}", request)],
            stdout=subprocess.PIPE,
            text=True,
        )

    def _call(self, method: str, request: dict[str, Any]) -> list[str]:
        authorization = f"authorization: Bearer {self._key}"
        return ["-H", authorization, "-d", json.dumps(request), self._address, method]


@pytest.fixture
def grpcurl(mesh: MeshProcess) -> Grpcurl:
    return Grpcurl(require_tool("grpcurl"), mesh)


def test_every_service_of_the_api_is_listed(grpcurl: Grpcurl) -> None:
    defined = {
        f"{package}.{name}"
        for package in PACKAGES
        for proto in PROTOS.joinpath(*package.split(".")).glob("*.proto")
        for name in re.findall(r"^service (\w+)", proto.read_text(), re.MULTILINE)
    }
    assert len(defined) > 20
    assert defined <= grpcurl.services()
    assert {"grpc.health.v1.Health", "grpc.channelz.v1.Channelz"} <= grpcurl.services()


def test_a_method_and_its_request_are_described(grpcurl: Grpcurl) -> None:
    assert "rpc SendMessage" in grpcurl.describe("sessionmesh.v1.MessageService.SendMessage")
    assert "string account_id = 1" in grpcurl.describe("sessionmesh.v1.SendMessageRequest")


def test_a_message_is_sent_from_nothing(grpcurl: Grpcurl) -> None:
    tenant = grpcurl.call(
        "TenantService/CreateTenant", request_id=unique(), tenant={"external_id": unique("tenant")}
    )["tenant"]
    account = grpcurl.call(
        "AccountService/CreateAccount",
        request_id=unique(),
        tenant_id=tenant["id"],
        account={"phone": "+4917099887766"},
    )["account"]

    steps = []
    with grpcurl.stream("SessionService/Pair", account_id=account["id"], request_id=unique()) as pairing:
        assert pairing.stdout is not None
        for step in _objects(pairing.stdout):
            steps.append(step)
            if "qr" in step:
                scan = {"qr": step["qr"]["text"], "phone": account["phone"]}
                grpcurl.call("SimulatorService/AcceptPairing", SIMULATOR, **scan)
    assert pairing.returncode == 0
    assert "paired" in steps[-1]

    message = grpcurl.call(
        "MessageService/SendMessage",
        account_id=account["id"],
        request_id=unique(),
        recipient="phone:+4915112345678",
        content={"text": {"body": "Hello from grpcurl"}},
    )["message"]

    def delivered() -> bool:
        found = grpcurl.call(
            "MessageService/GetMessage", account_id=account["id"], message={"message_id": message["id"]}
        )
        return bool(found["message"]["status"] == "MESSAGE_STATUS_DELIVERED")

    wait_until(delivered, what="DELIVERED")


@pytest.mark.parametrize("page", [page.name for page in PAGES if "\ngrpcurl " in page.read_text()])
def test_the_commands_that_pages_print_are_answered(
    page: str,
    mesh: MeshProcess,
    tenant: Tenant,
    account: account_pb2.Account,
    grpcurl: Grpcurl,
    tmp_path: Path,
) -> None:
    endpoint = grpcurl.call(
        "WebhookService/CreateEndpoint",
        tenant_id=tenant.id,
        request_id=unique(),
        endpoint={"url": "https://example.com/hook"},
    )["endpoint"]
    real = {"acc_...": account.id, "whe_...": endpoint["id"]}
    (tmp_path / "grpcurl").symlink_to(require_tool("grpcurl"))
    (text,) = (each.read_text() for each in PAGES if each.name == page)
    printed = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    for commands in (block for block in printed if "grpcurl" in block):
        ended = subprocess.run(
            ["bash", "-c", _as_here(commands, mesh, real)],
            env={
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "KEY": tenant.caller.key if page in FOR_TENANTS else mesh.file.admin_key,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.stdout, f"{commands}{ended.stderr}"
        # The stream of the xDS example ends with its time.
        assert set(re.findall(r"Code: (\w+)|(^(?:Failed|Error).*)", ended.stderr)) <= {
            ("DeadlineExceeded", "")
        }


def _as_here(commands: str, mesh: MeshProcess, ids: dict[str, str]) -> str:
    """Printed commands with the address of this mesh, which has no TLS, and with ids that it has."""
    commands = re.sub(r"^KEY=\.\.\..*\n", "", commands, flags=re.MULTILINE)
    for example, real in (
        ("127.0.0.1:7600", mesh.address),
        ("mesh.example.org:443", mesh.address),
        ("grpcurl -H", "grpcurl -plaintext -H"),
        *ids.items(),
    ):
        commands = commands.replace(example, real)
    return commands


def _objects(stream: IO[str]) -> Any:
    """The JSON objects of a stream, each as soon as it is whole."""
    decoder = json.JSONDecoder()
    text = ""
    for line in stream:
        text += line
        try:
            found, end = decoder.raw_decode(text.lstrip())
        except json.JSONDecodeError:
            continue
        text = text.lstrip()[end:]
        yield found
