"""The TypeScript client: its own tests on Node, and the package as a program gets it, against a real mesh."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from sessionmesh.simulator.v1 import simulator_pb2
from sessionmesh.v1 import account_pb2
from tests.acceptance.builds import PROTOS, ROOT, built_once, run
from tests.acceptance.client_programs import WorkingProgram, at_work
from tests.support.authority import Authority
from tests.support.eventually import eventually
from tests.support.mesh_api import Caller, Tenant
from tests.support.mesh_process import MeshProcess, clean_environment
from tests.support.tools import require_on_path

CLIENT = ROOT / "clients" / "typescript"
BUILD = ROOT / "deploy" / "tools" / "build-typescript"
VECTORS = ROOT / "docs" / "webhooks.json"
PROJECT = Path(__file__).parent / "typescript_package"
SENDER = "phone:+4915112345678"
RESTART_SECONDS = 60.0


def built_client() -> Path:
    """The client's folder, compiled and packed, with what its tests read beside it as in the checkout."""
    require_on_path("npm", "the TypeScript client")
    sources = [
        place for pattern in ("*.json", "*.md", "src/*.ts", "test/*.ts") for place in CLIENT.glob(pattern)
    ]
    sources.sort()

    def build(folder: Path) -> None:
        client = folder / "clients" / "typescript"
        for source in sources:
            place = client / source.relative_to(CLIENT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, place)
        (folder / "docs").mkdir()
        shutil.copy(VECTORS, folder / "docs")
        run([str(BUILD), str(client)], ROOT)

    protos = [PROTOS / package for package in ("v1", "admin", "simulator", "simnet")]
    built = built_once("typescript-package", [*sources, VECTORS, BUILD, *protos], build)
    return built / "clients" / "typescript"


def installed_program() -> list[str]:
    """The command of a program that has the package from npm, and is compiled against its types.

    What the package needs comes at the versions of its lock, though programs take newer ones.
    """
    client = built_client()
    (package,) = client.glob("*.tgz")
    locked = json.loads((CLIENT / "package-lock.json").read_text())["packages"]
    versions = {name.rpartition("node_modules/")[2]: one["version"] for name, one in locked.items() if name}

    def build(folder: Path) -> None:
        shutil.copytree(PROJECT, folder, dirs_exist_ok=True)
        described = json.loads((folder / "package.json").read_text()) | {"overrides": versions}
        (folder / "package.json").write_text(json.dumps(described))
        npm = ["npm", "install", "--prefer-offline", "--silent", "--no-audit", "--no-fund", str(package)]
        run(npm, folder)
        run([str(client / "node_modules" / ".bin" / "tsc"), "--project", str(folder)], folder)

    return [
        "node",
        str(built_once("typescript-program", [PROJECT, package, repr(versions)], build) / "program.js"),
    ]


def test_its_own_tests_pass(tmp_path: Path) -> None:
    client = built_client()
    authority = Authority(tmp_path, "ca")
    authority.issue("server")
    authority.issue("client")
    Authority(tmp_path, "other")
    command = ["node", "--test", "--test-reporter=tap", "--test-timeout=300000", "dist/test/all.js"]
    reported = run(command, client, {"MESH_TEST_CERTIFICATES": str(tmp_path)})
    assert "\n# fail 0\n" in reported
    assert "\n# skipped 0\n" in reported


def test_what_the_readme_prints_is_right_by_its_types(tmp_path: Path) -> None:
    installed = Path(installed_program()[-1]).parent
    printed = re.findall(r"^```ts\n(.*?)^```$", (CLIENT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "program.ts").write_text("\n".join(printed))
    for name in ("node_modules", "package.json", "tsconfig.json"):
        (tmp_path / name).symlink_to(installed / name)
    run(
        [str(built_client() / "node_modules" / ".bin" / "tsc"), "--project", str(tmp_path), "--noEmit"],
        tmp_path,
    )


async def test_a_program_does_all_it_does_with_accounts_while_what_it_calls_is_killed(
    mesh: MeshProcess, admin: Caller, tenant: Tenant, tmp_path: Path
) -> None:
    limits = account_pb2.SendLimits(per_minute=10_000, per_hour=100_000, per_day=100_000)
    account = await tenant.caller.new_account(send_limits=limits)
    command = [*installed_program(), mesh.address, tenant.caller.key, account.id, str(tmp_path)]
    async with at_work(command, clean_environment(), tmp_path) as working:
        scan = simulator_pb2.AcceptPairingRequest(qr=await working.next("scan"), phone=account.phone)
        await admin(admin.simulator.AcceptPairing, scan)
        assert await working.next("paired") == f"phone:{account.phone}"

        sent = await working.next("sent")
        assert (await tenant.caller.message(account.id, sent)).chat == SENDER
        assert await working.next("webhook") == f"message.delivered {sent}"

        await see_it_receive(working, account, admin, mesh)
        stored = (await working.next("stored")).split()
        assert stored[1:] == ["1000000", "text/plain"]
        killed = mesh.kill_part("router")
        assert await working.next("bulk") == "500"
        assert await working.next("refused") == "InvalidArgument INVALID_FIELD recipient"
        assert await working.next("refused") == "NotFound RESOURCE_NOT_FOUND -"
        await working.next("done")
    await eventually(lambda: mesh.file.parts["router"].pid != killed, RESTART_SECONDS, "its restart")


async def see_it_receive(
    working: WorkingProgram, account: account_pb2.Account, admin: Caller, mesh: MeshProcess
) -> None:
    """Each message once and in order, though the server of the stream is killed behind the first."""

    async def write(text: str) -> None:
        message = simulator_pb2.InjectMessageRequest(phone=account.phone, sender=SENDER, text=text)
        await admin(admin.simulator.InjectMessage, message)

    await write("one")
    assert await working.next("received") == "one"
    killed = mesh.kill_part("webhook")
    await write("two")
    assert await working.next("received") == "two"
    await eventually(lambda: mesh.file.parts["webhook"].pid != killed, RESTART_SECONDS, "its restart")
    await write("three")
    assert await working.next("received") == "three"
