"""`mesh contact check` and `mesh fleet clear-caches`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mesh_cli.__main__ import app
from sessionmesh.admin.v1 import fleet_pb2, fleet_pb2_grpc
from sessionmesh.v1 import contact_pb2, contact_pb2_grpc
from tests.conftest import LoopThread
from tests.support.fake_router import FakeRouter

ACCOUNT = "acc_01M80SWXV5EMYAB01019B0170N"


class Contacts(contact_pb2_grpc.ContactServiceServicer):
    """Every even number is on the network."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    async def CheckNumbers(self, request: contact_pb2.CheckNumbersRequest, context: Any) -> Any:
        self.batches.append([*request.phones])
        response = contact_pb2.CheckNumbersResponse()
        for phone in request.phones:
            check = response.checks.add(phone=phone, registered=int(phone[-1]) % 2 == 0)
            check.check_time.seconds = 1_700_000_000
            if check.registered:
                check.person.user_id, check.person.username = phone[1:], "=1+1"
        return response


class Fleet(fleet_pb2_grpc.FleetServiceServicer):
    """Has seven answers of each tenant."""

    async def ClearCaches(self, request: fleet_pb2.ClearCachesRequest, context: Any) -> Any:
        return fleet_pb2.ClearCachesResponse(cleared=7 if request.tenant_id else 1_014)


@pytest.fixture
def served() -> Contacts:
    return Contacts()


@pytest.fixture
def router(server_loop: LoopThread, served: Contacts) -> Iterator[FakeRouter]:
    running = FakeRouter(
        {
            contact_pb2_grpc.add_ContactServiceServicer_to_server: served,
            fleet_pb2_grpc.add_FleetServiceServicer_to_server: Fleet(),
        }
    )
    server_loop.run(running.start())
    yield running
    server_loop.run(running.kill())


def mesh(router: FakeRouter, *arguments: str, given: str = "") -> Result:
    runner = CliRunner()
    return runner.invoke(app, ["--address", router.address, "--api-key", "smk_1", *arguments], input=given)


def test_numbers_of_a_file_are_checked_in_batches_and_shown(
    router: FakeRouter, served: Contacts, tmp_path: Path
) -> None:
    file = tmp_path / "numbers.txt"
    file.write_text("# customers\n\n" + "".join(f"+49 151 (0)-{number:04} # one\n" for number in range(150)))
    shown = mesh(router, "contact", "check", ACCOUNT, str(file))
    assert shown.exit_code == 0, shown.output
    assert [len(batch) for batch in served.batches] == [100, 50]
    assert served.batches[0][1] == "+4915100001"
    assert "yes" in shown.stdout
    assert "no" in shown.stdout


def test_numbers_of_standard_input_are_printed_as_csv(router: FakeRouter) -> None:
    shown = mesh(router, "contact", "check", ACCOUNT, "-", "--csv", given="+4915100002\n+4915100003\n")
    assert shown.exit_code == 0, shown.output
    header, there, missing = csv.reader(shown.stdout.splitlines())
    assert header[:2] == ["phone", "registered"]
    assert there[:3] == ["+4915100002", "yes", "4915100002"]
    assert there[4] == "'=1+1"  # which no spreadsheet is to compute
    assert missing[:3] == ["+4915100003", "no", ""]


def test_numbers_are_printed_as_json(router: FakeRouter) -> None:
    shown = mesh(router, "contact", "check", ACCOUNT, "-", "--json", given="+4915100002")
    assert json.loads(shown.stdout)["registered"]


def test_a_file_without_numbers_is_refused(router: FakeRouter, tmp_path: Path) -> None:
    assert mesh(router, "contact", "check", ACCOUNT, "-", given="# nobody\n").exit_code == 2
    assert mesh(router, "contact", "check", ACCOUNT, str(tmp_path / "none")).exit_code == 2


def test_caches_are_cleared_of_one_tenant_or_of_all(router: FakeRouter) -> None:
    assert "1,014" in mesh(router, "fleet", "clear-caches", "--all").stdout
    assert mesh(router, "fleet", "clear-caches", "--tenant", "tnt_1", "--json").stdout.strip() == (
        '{"cleared": "7"}'
    )
    assert mesh(router, "fleet", "clear-caches").exit_code == 2
