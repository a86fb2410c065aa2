"""The programs of docs/examples do what docs/client.md says, as they are printed."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sessionmesh.simulator.v1 import simulator_pb2
from sessionmesh.v1 import account_pb2, chat_pb2, event_pb2
from tests.support.eventually import eventually
from tests.support.mesh_api import Caller, Tenant, text_message
from tests.support.mesh_process import MeshProcess, run_mesh_here

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
PAGE = ROOT / "docs" / "client.md"
TO = "+4915112345678"
SECONDS = 60.0


def printed_parts() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def unindented(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines())


@pytest.mark.parametrize("part", printed_parts(), ids=lambda part: part.splitlines()[0][:40])
def test_what_the_page_prints_is_in_an_example(part: str) -> None:
    assert any(unindented(part) in unindented(file.read_text()) for file in EXAMPLES.glob("*.py"))


@pytest.fixture
def key(tenant: Tenant) -> str:
    metadata = dict(tenant.caller.metadata)
    return metadata["authorization"].removeprefix("Bearer ")


@asynccontextmanager
async def example(
    mesh: MeshProcess, key: str, name: str, *arguments: str, **environment: str
) -> AsyncIterator[Process]:
    """One of the programs, as somebody would run it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", str(EXAMPLES / name), *arguments),
        env={**os.environ, "MESH_ADDRESS": mesh.address, "MESH_API_KEY": key, **environment},
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        async with asyncio.timeout(SECONDS):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def output(mesh: MeshProcess, key: str, name: str, *arguments: str, **environment: str) -> str:
    """All that it prints; it must end well."""
    async with example(mesh, key, name, *arguments, **environment) as process:
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def line_of(process: Process, beginning: str) -> str:
    """The rest of the next line that begins so."""
    assert process.stdout is not None
    async for line in process.stdout:
        if line.decode().startswith(beginning):
            return line.decode().removeprefix(beginning).strip()
    assert process.stderr is not None
    raise AssertionError(f"no line begins with {beginning!r}: {(await process.stderr.read()).decode()}")


@pytest.mark.parametrize("name", ["send.py", "send_sync.py"])
async def test_a_text_is_sent(mesh: MeshProcess, key: str, account: account_pb2.Account, name: str) -> None:
    said = await output(mesh, key, name, account.id, TO)
    assert re.fullmatch(r"msg_\w{26} MESSAGE_STATUS_SENT\n", said)


async def test_many_are_sent(mesh: MeshProcess, key: str, account: account_pb2.Account) -> None:
    numbers = [f"+49151123456{number:02}" for number in range(50)]
    said = await output(mesh, key, "bulk.py", account.id, *numbers)
    sent = dict(line.split() for line in said.splitlines())
    assert sent.keys() == set(numbers)
    assert all(message.startswith("msg_") for message in sent.values())
    again = await output(mesh, key, "bulk.py", account.id, *numbers)
    assert dict(line.split() for line in again.splitlines()) == sent


async def test_an_account_has_groups_channels_chats_and_settings(
    mesh: MeshProcess, key: str, tenant: Tenant, account: account_pb2.Account, admin: Caller
) -> None:
    wrote = simulator_pb2.InjectMessageRequest(phone=account.phone, sender=f"phone:{TO}", text="Hello?")
    await admin(admin.simulator.InjectMessage, wrote)

    async def came() -> bool:
        chats = chat_pb2.ListChatsRequest(account_id=account.id, unread_only=True)
        return bool((await tenant.caller(tenant.caller.chats.ListChats, chats)).chats)

    await eventually(came)
    said = (await output(mesh, key, "groups_and_chats.py", account.id, TO)).splitlines()
    beginnings = ["group: group:", "channel: channel:", "unread: 1 of ", "calls are rejected: True"]
    assert [line.startswith(each) for line, each in zip(said, beginnings, strict=True)] == [True] * 4
    assert not await came()


async def test_a_file_goes_up_and_comes_down(mesh: MeshProcess, key: str, tmp_path: Path) -> None:
    source, copy = tmp_path / "notes.txt", tmp_path / "copy.txt"
    source.write_text("word " * 200_000)
    said = await output(mesh, key, "media.py", str(source), str(copy))
    assert said.split()[2] == "1000000"
    assert copy.read_bytes() == source.read_bytes()


async def test_an_account_is_paired(mesh: MeshProcess, key: str, tenant: Tenant, admin: Caller) -> None:
    account = await tenant.caller.new_account()
    async with example(mesh, key, "pair.py", account.id) as process:
        qr = await line_of(process, "Scan it, or its text:")
        scan = simulator_pb2.AcceptPairingRequest(qr=qr, phone=account.phone)
        await admin(admin.simulator.AcceptPairing, scan)
        assert await line_of(process, "paired as") == f"phone:{account.phone}"


async def test_events_are_followed_on_after_a_restart(
    mesh: MeshProcess, key: str, tenant: Tenant, account: account_pb2.Account, tmp_path: Path
) -> None:
    runs: list[list[str]] = []
    for _ in range(2):
        message = await tenant.caller.send(text_message(account.id))
        await tenant.caller.until_delivered(account.id, message.id)
        seen: list[str] = []
        async with example(mesh, key, "subscribe.py", str(tmp_path / "cursor.txt")) as process:
            while len(seen) < 3:
                line = await line_of(process, "")
                if not (runs and line == runs[0][-1]):  # it was killed before it had stored that
                    seen.append(line)
        runs.append(seen)
    assert len({*runs[0], *runs[1]}) == 6
    for seen in runs:
        types = [line.split()[0] for line in seen]
        assert types == ["message.queued", "message.sent", "message.delivered"]


async def is_consumed(tenant: Tenant) -> bool:
    """Whether the tenant's subscription has a consumer."""
    found = await tenant.caller(tenant.caller.events.ListSubscriptions, event_pb2.ListSubscriptionsRequest())
    return bool(found.subscriptions and found.subscriptions[0].consumers)


async def test_events_are_consumed_on_after_a_restart(
    mesh: MeshProcess, key: str, tenant: Tenant, account: account_pb2.Account
) -> None:
    seen: list[str] = []
    for _ in range(2):
        async with example(mesh, key, "consume.py") as process:
            await eventually(lambda: is_consumed(tenant))
            message = await tenant.caller.send(text_message(account.id))
            await tenant.caller.until_delivered(account.id, message.id)
            while not (seen and seen[-1].startswith("message.delivered")):
                line = await line_of(process, "")
                if line not in seen:  # it was killed before it had acknowledged that
                    seen.append(line)
        seen.append("")
    types = [line.split()[0] for line in seen if line.startswith("message.")]
    assert types == ["message.queued", "message.sent", "message.delivered"] * 2


async def test_what_goes_wrong_is_told_apart(
    mesh: MeshProcess, key: str, tenant: Tenant, account: account_pb2.Account, free_port: int
) -> None:
    accepted = await output(mesh, key, "errors.py", account.id, TO)
    assert re.fullmatch(r"accepted: msg_\w{26}\n", accepted)
    assert await output(mesh, key, "errors.py", account.id, TO) == accepted
    wrong = await output(mesh, key, "errors.py", account.id, "0151")
    assert wrong.startswith("wrong: recipient must be")
    nobody = "acc_00000000000000000000000000"
    assert await output(mesh, key, "errors.py", nobody, TO) == f"there is no account {nobody}\n"
    unpaired = await tenant.caller.new_account()
    assert await output(mesh, key, "errors.py", unpaired.id, TO) == "not now: NOT_PAIRED\n"
    assert "CREDENTIALS_INVALID" in await output(mesh, "smk_nonsense", "errors.py", account.id, TO)
    nowhere = await output(mesh, key, "errors.py", account.id, TO, MESH_ADDRESS=f"127.0.0.1:{free_port}")
    assert f"nothing listens at 127.0.0.1:{free_port}" in nowhere


async def test_stubs_reach_the_owner_by_themselves(
    mesh: MeshProcess, key: str, account: account_pb2.Account, tmp_path: Path
) -> None:
    bootstrap = tmp_path / "bootstrap.json"
    bootstrap.write_text(run_mesh_here("--state", str(mesh.state), "xds-bootstrap").stdout)
    said = await output(mesh, key, "xds_by_hand.py", account.id, GRPC_XDS_BOOTSTRAP=str(bootstrap))
    assert said.startswith("SESSION_STATE_CONNECTED on ")
