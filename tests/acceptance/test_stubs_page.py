"""What docs/stubs.md prints works as it stands there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sessionmesh.v1 import account_pb2
from tests.acceptance.builds import built_once, generated_stubs
from tests.acceptance.client_programs import JAVA_PROJECT, java_project
from tests.acceptance.printed import ACCOUNT, ADDRESS, KEY, Printed, environment, printed, put_checkout_beside
from tests.support.mesh_api import Tenant
from tests.support.mesh_process import MeshProcess, clean_environment
from tests.support.tools import require_on_path

NEEDS = {"Python": "python3", "Go": "go", "Java": "mvn", "Node": "npm", "TypeScript": "npm"}
NO_SUCH_ACCOUNT = "acc_01ARZ3NDEKTSV4RRFFQ69G5FAV"
CALL_SECONDS = 60.0


@pytest.fixture(params=NEEDS)
def language(request: pytest.FixtureRequest) -> str:
    require_on_path(NEEDS[request.param], f"the {request.param} section of docs/stubs.md")
    return str(request.param)


@pytest.fixture
def project(language: str, tmp_path: Path) -> Path:
    """A folder like the one in which the section's preparations were run; the checkout lies beside it."""
    built = java_project() if language == "Java" else _prepared(language)
    folder = tmp_path / "project"
    folder.mkdir()
    for place in built.iterdir():
        (folder / place.name).symlink_to(place)
    put_checkout_beside(folder)
    return folder


def test_the_printed_program_sends_over_every_transport_it_is_printed_for(
    language: str, project: Path, mesh: MeshProcess, tenant: Tenant, account: account_pb2.Account
) -> None:
    for command in printed(language).calls:
        ended = _call(command, project, mesh, tenant, account.id)
        assert (ended.returncode, ended.stdout[:4]) == (0, "msg_"), f"{command}{ended.stderr}"


def test_the_printed_program_says_why_it_was_refused(
    language: str, project: Path, mesh: MeshProcess, tenant: Tenant
) -> None:
    ended = _call(printed(language).calls[0], project, mesh, tenant, NO_SUCH_ACCOUNT)
    assert ended.returncode == 1, ended.stdout
    assert "RESOURCE_NOT_FOUND" in ended.stderr


def test_the_printed_pom_is_the_one_of_the_java_client() -> None:
    assert printed("Java").files["pom.xml"] == (JAVA_PROJECT / "pom.xml").read_text()


def _prepared(language: str) -> Path:
    section: Printed = printed(language)
    stubs = generated_stubs()
    return built_once(f"printed-{language.lower()}", [section.text, stubs], section.prepare)


def _call(
    command: str, project: Path, mesh: MeshProcess, tenant: Tenant, account_id: str
) -> subprocess.CompletedProcess[str]:
    for example, real in ((ADDRESS, mesh.address), (KEY, tenant.caller.key), (ACCOUNT, account_id)):
        command = command.replace(example, real)
    return subprocess.run(
        ["bash", "-ec", command],
        cwd=project,
        env={**clean_environment(), **environment(), "MESH_STATE": str(mesh.state)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=CALL_SECONDS,
        check=False,
    )
