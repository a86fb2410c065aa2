"""The `mesh` command as an operator uses it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from mesh_cli.__main__ import app
from tests.support.eventually import wait_until
from tests.support.mesh_api import unique
from tests.support.mesh_process import MeshProcess, run_mesh, run_mesh_here

EXIT_NO_MESH = 69
EXIT_USAGE = 2
NOBODY = "acc_00000000000000000000000000"
MESH = typer.main.get_command(app)


def commands(group: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every command below `group`, groups too."""
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


def mesh_json(mesh: MeshProcess, *arguments: str) -> list[dict[str, object]]:
    """What a command with --json prints, an object a line."""
    ended = run_mesh_here("--state", str(mesh.state), *arguments, "--json")
    assert ended.exit_code == 0, ended.stdout + ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.mark.parametrize("command", list(commands(MESH)), ids=" ".join)
def test_every_command_explains_itself(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        MESH.main([*command, "--help"], prog_name="mesh")
    assert ended.value.code == 0
    assert "Usage:" in capsys.readouterr().out


def test_a_tenant_an_account_and_a_key_are_created_paired_and_used(mesh: MeshProcess) -> None:
    name = unique("tenant")
    tenant = mesh_json(mesh, "tenant", "create", name)[0]
    assert name in {one["external_id"] for one in mesh_json(mesh, "tenant", "list")}

    phone = "+4917012345678"
    account = mesh_json(mesh, "account", "create", "shop-1", "--tenant", name, "--phone", phone)[0]
    account_id = str(account["id"])
    assert account["tenant_id"] == tenant["id"]
    [listed] = mesh_json(mesh, "account", "list", "--tenant", name)
    assert listed["id"] == account_id
    assert "SESSION_STATE_NEW" in str(listed["session"])

    paired = run_mesh_here("--state", str(mesh.state), "pair", account_id, "--accept")
    assert paired.exit_code == 0, paired.stdout + paired.stderr
    assert f"Paired as phone:{phone}" in paired.stdout
    assert "█" in paired.stdout  # the QR picture

    found = mesh_json(mesh, "account", "get", "shop-1", "--tenant", name)[0]
    assert (found["id"], found["phone"]) == (account_id, phone)

    scopes = ("--scope", "send", "--account", account_id)
    secret = str(mesh_json(mesh, "key", "create", "--tenant", name, *scopes)[0]["secret"])
    ended = run_mesh(
        *("send", account_id, "+4915112345678", "Hello", "--wait", "--json"),
        MESH_ADDRESS=mesh.address,
        MESH_API_KEY=secret,
    )
    assert ended.returncode == 0, ended.stderr
    sent = json.loads(ended.stdout)
    assert (sent["status"], sent["chat"]) == ("MESSAGE_STATUS_SENT", "phone:+4915112345678")


@pytest.mark.slow
def test_a_persons_data_are_exported_and_erased_and_a_tenant_with_a_session_is_deleted(
    mesh: MeshProcess,
) -> None:
    name, person = unique("tenant"), "phone:+4915112345699"
    mesh_json(mesh, "tenant", "create", name)
    phone = "+4917012345699"
    account = mesh_json(mesh, "account", "create", "shop-1", "--tenant", name, "--phone", phone)[0]
    account_id = str(account["id"])
    paired = run_mesh_here("--state", str(mesh.state), "pair", account_id, "--accept")
    assert paired.exit_code == 0, paired.stdout + paired.stderr
    [sent] = mesh_json(mesh, "send", account_id, person, "Hello", "--wait")

    def exported() -> list[dict[str, Any]]:
        ended = run_mesh_here("--state", str(mesh.state), "tenant", "export-person", person, "--tenant", name)
        assert ended.exit_code == 0, ended.stderr
        return [json.loads(line) for line in ended.stdout.splitlines()]

    def succeeded(job: dict[str, object]) -> bool:
        return mesh_json(mesh, "job", "get", str(job["id"]))[0]["state"] == "JOB_STATE_SUCCEEDED"

    [message] = [record["message"] for record in exported() if "message" in record]
    assert (message["id"], message["content"]["text"]["body"]) == (sent["id"], "Hello")
    assert any("event" in record for record in exported())
    [job] = mesh_json(mesh, "tenant", "erase-person", person, "--tenant", name)
    wait_until(lambda: succeeded(job))
    assert exported() == [{"addresses": {"addresses": [person]}}]
    [deletion] = mesh_json(mesh, "tenant", "delete", name, "--force")
    wait_until(lambda: succeeded(deletion))
    assert name not in {one["external_id"] for one in mesh_json(mesh, "tenant", "list")}


def test_a_message_is_listed_shown_edited_and_taken_back(mesh: MeshProcess) -> None:
    revoked: Any
    name, person = unique("tenant"), "phone:+4917012345690"
    mesh_json(mesh, "tenant", "create", name)
    account = mesh_json(mesh, "account", "create", "desk", "--tenant", name, "--phone", "+4917012345691")[0]
    account_id = str(account["id"])
    assert run_mesh_here("--state", str(mesh.state), "pair", account_id, "--accept").exit_code == 0
    [sent] = mesh_json(mesh, "send", account_id, person, "Helo", "--wait")
    message_id = str(sent["id"])

    mesh_json(mesh, "message", "edit", account_id, message_id, "Hello")
    mesh_json(mesh, "message", "react", account_id, message_id, "\N{THUMBS UP SIGN}")
    [shown] = mesh_json(mesh, "message", "show", account_id, message_id)
    assert shown["content"] == {"text": {"body": "Hello"}}
    listed = run_mesh_here(
        "--state", str(mesh.state), "message", "ls", account_id, "--sent", "--chat", person
    )
    assert listed.exit_code == 0, listed.stderr
    assert "Hello" in listed.stdout
    mesh_json(mesh, "message", "revoke", account_id, message_id)
    [revoked] = mesh_json(mesh, "message", "show", account_id, message_id)
    assert "revoked" in dict(revoked["content"])
    assert mesh_json(mesh, "message", "ls", account_id, "--received") == []


def test_a_sessions_settings_are_shown_and_changed(mesh: MeshProcess) -> None:
    name = "settings"
    mesh_json(mesh, "tenant", "create", name)
    account = mesh_json(mesh, "account", "create", "desk", "--tenant", name)[0]
    account_id = str(account["id"])
    assert mesh_json(mesh, "session", "settings", account_id) == [{"etag": "v0"}]

    mesh_json(
        mesh, "session", "settings", account_id, "--set", "pacing.min_gap=1s", "--set", "auto_read=true"
    )
    [shown] = mesh_json(
        mesh,
        *("session", "settings", account_id),
        *("--set", "pacing.max_gap=2s", "--set", "auto_read=", "--set", "warm_up.messages_per_day=[20,50]"),
    )

    assert shown == {
        "pacing": {"min_gap": "1s", "max_gap": "2s"},
        "warm_up": {"messages_per_day": [20, 50]},
        "etag": "v2",
    }
    table = run_mesh_here("--state", str(mesh.state), "session", "settings", account_id)
    assert "pacing.max_gap" in table.output
    risky = run_mesh_here("--state", str(mesh.state), "account", "list", "--tenant", name, "--risk")
    assert "unknown recipient share" in " ".join(risky.output.split())


def test_a_status_that_there_is_not_is_refused_with_those_that_there_are(mesh: MeshProcess) -> None:
    ended = run_mesh_here("--state", str(mesh.state), "message", "ls", NOBODY, "--status", "lost")
    assert ended.exit_code == EXIT_USAGE
    assert "in-doubt" in ended.stderr


def test_a_group_is_made_shown_changed_joined_and_left(mesh: MeshProcess) -> None:
    name, person, third = unique("tenant"), "phone:+4917012345680", "phone:+4917012345681"
    mesh_json(mesh, "tenant", "create", name)
    owner, guest = (
        str(mesh_json(mesh, "account", "create", each, "--tenant", name, "--phone", phone)[0]["id"])
        for each, phone in (("owner", "+4917012345682"), ("guest", "+4917012345683"))
    )
    for account_id in (owner, guest):
        assert run_mesh_here("--state", str(mesh.state), "pair", account_id, "--accept").exit_code == 0

    def run(*arguments: str) -> str:
        ended = run_mesh_here("--state", str(mesh.state), "group", *arguments)
        assert ended.exit_code == 0, ended.stdout + ended.stderr
        return ended.stdout

    group = str(mesh_json(mesh, "group", "create", owner, "Tea", person)[0]["address"])
    assert [each["address"] for each in mesh_json(mesh, "group", "ls", owner)] == [group]
    mesh_json(mesh, "group", "change", owner, group, "--name", "Coffee")
    run("add", owner, group, third)
    run("promote", owner, group, third)
    shown = run("show", owner, group)
    assert "Coffee" in shown
    [role] = [line.split()[-1] for line in shown.splitlines() if line.startswith(third)]
    assert role == "admin"
    link = run("invite", owner, group).strip()
    [joined] = mesh_json(mesh, "group", "join", guest, link)
    assert joined["address"] == group
    run("leave", guest, group)
    run("remove", owner, group, person)
    members = mesh_json(mesh, "group", "show", owner, group)[1:]
    assert len(members) == 2


def test_the_chats_of_an_account_are_listed_with_what_is_unread(mesh: MeshProcess) -> None:
    name, person = unique("tenant"), "phone:+4917012345670"
    mesh_json(mesh, "tenant", "create", name)
    account = mesh_json(mesh, "account", "create", "desk", "--tenant", name, "--phone", "+4917012345671")[0]
    account_id = str(account["id"])
    assert run_mesh_here("--state", str(mesh.state), "pair", account_id, "--accept").exit_code == 0
    mesh_json(mesh, "send", account_id, person, "Hello", "--wait")
    wait_until(lambda: [one["address"] for one in mesh_json(mesh, "chat", "ls", account_id)] == [person])
    assert mesh_json(mesh, "chat", "ls", account_id, "--unread") == []
    ended = run_mesh_here("--state", str(mesh.state), "chat", "read", account_id, person)
    assert ended.exit_code == 0, ended.stderr


def test_who_did_what_is_listed(mesh: MeshProcess) -> None:
    name = unique("tenant")
    [tenant] = mesh_json(mesh, "tenant", "create", name)
    key: Any = mesh_json(mesh, "key", "create", "--tenant", name, "--scope", "read")[0]
    key_id = str(key["api_key"]["id"])

    def noted() -> bool:
        events = mesh_json(mesh, "audit", "--tenant", name)
        return [event.get("resource") for event in events] == [tenant["id"], key_id]

    wait_until(noted)
    shown = run_mesh_here("--state", str(mesh.state), "audit", "--tenant", name, "--about", key_id)
    assert shown.exit_code == 0, shown.stderr
    assert "TenantService/CreateApiKey" in shown.stdout
    assert "OK" in shown.stdout


def test_a_file_is_stored_listed_counted_fetched_and_pruned(mesh: MeshProcess, tmp_path: Path) -> None:
    name, file, copy = unique("tenant"), tmp_path / "report.pdf", tmp_path / "copy.pdf"
    mesh_json(mesh, "tenant", "create", name)
    tenant = ("--tenant", name)
    file.write_bytes(b"%PDF-1.7\n" + bytes(5000))
    media = str(mesh_json(mesh, "media", "put", str(file), *tenant, "--keep-for", "30d")[0]["id"])
    assert [one["id"] for one in mesh_json(mesh, "media", "ls", *tenant, "--type", "application/")] == [media]
    mesh_json(mesh, "media", "get", media, str(copy))
    assert copy.read_bytes() == file.read_bytes()

    [usage] = mesh_json(mesh, "media", "usage", *tenant)
    assert usage["stored"] == {"objects": "1", "size_bytes": "5009"}
    shown = run_mesh_here("--state", str(mesh.state), "media", "usage", *tenant)
    assert "1 file, 4.9 KiB" in shown.stdout
    assert "█" in shown.stdout

    mesh_json(mesh, "media", "policy", *tenant, "--keep", "received=7d", "--limit", "received=1G")
    shown = run_mesh_here("--state", str(mesh.state), "media", "policy", *tenant)
    assert shown.exit_code == 0, shown.stderr
    assert ["received", "7d", "1.0", "GiB", "tenant"] in [line.split() for line in shown.stdout.splitlines()]

    shown = run_mesh_here(
        "--state", str(mesh.state), "media", "prune", *tenant, "--type", "application/", "--dry-run"
    )
    assert "Would delete 1 file, and free 4.9 KiB" in shown.stdout
    [job] = mesh_json(mesh, "media", "prune", *tenant, "--type", "application/")
    assert (job["state"], job["done"]) == ("JOB_STATE_SUCCEEDED", "1")
    assert mesh_json(mesh, "media", "ls", *tenant) == []


def test_an_endpoint_is_created_listed_and_deleted_and_its_headers_stay_secret(mesh: MeshProcess) -> None:
    name = unique("tenant")
    mesh_json(mesh, "tenant", "create", name)
    tenant = ("--tenant", name)
    made = mesh_json(
        mesh,
        *("endpoint", "create", "http://127.0.0.1:9/hook", *tenant),
        *("--event-type", "message.*", "--header", "x-shop=hidden-word"),
    )[0]
    assert str(made["secret"]).startswith("whsec_")
    shown = run_mesh_here("--state", str(mesh.state), "endpoint", "list", *tenant)
    assert "x-shop" in shown.stdout
    assert "hidden-word" not in json.dumps(made) + shown.stdout
    [endpoint] = mesh_json(mesh, "endpoint", "list", *tenant)
    deleted = run_mesh_here("--state", str(mesh.state), "endpoint", "delete", str(endpoint["id"]))
    assert deleted.exit_code == 0, deleted.stderr
    assert mesh_json(mesh, "endpoint", "list", *tenant) == []


def test_an_administrators_key_is_made_by_its_scope(mesh: MeshProcess) -> None:
    made = mesh_json(mesh, "key", "create", "--scope", "operator", "--name", unique("key"))[0]
    listed = run_mesh_here("--address", mesh.address, "--api-key", str(made["secret"]), "tenant", "list")
    assert listed.exit_code == 0, listed.stderr


def test_the_mesh_says_what_it_is(mesh: MeshProcess) -> None:
    [found] = mesh_json(mesh, "info")
    assert found["api_edition"] == 2
    shown = run_mesh_here("--state", str(mesh.state), "info")
    assert "simulated" in shown.stdout
    assert "page items" in shown.stdout


def test_tables_are_for_people(mesh: MeshProcess) -> None:
    name = unique("tenant")
    shown = run_mesh_here("--state", str(mesh.state), "tenant", "create", name)
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.splitlines()[0].split()[:1] == ["id"]
    assert name in shown.stdout


def test_the_doctor_finds_a_running_mesh_well(mesh: MeshProcess) -> None:
    ended = run_mesh_here("--state", str(mesh.state), "doctor", "--json")
    findings = json.loads(ended.stdout)
    good = {finding["subject"] for finding in findings if finding["verdict"] == "good"}
    assert {*mesh.file.parts, "etcd", "Postgres", "schema", "Redis", "objects", "versions", "calls"} <= good
    assert mesh.file.admin_key not in ended.output
    assert ended.exit_code == (1 if any(finding["verdict"] == "wrong" for finding in findings) else 0)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["account", "get", NOBODY], 1, "NOT_FOUND"),
        (["account", "get", "acc_nonsense"], 1, "account_id"),
        (["account", "create", "x", "--tenant", "no-such-tenant"], EXIT_USAGE, "no-such-tenant"),
        (["key", "create", "--scope", "everything"], EXIT_USAGE, "'everything' is none of read"),
        (["key", "create"], EXIT_USAGE, "Missing option '--scope'"),
        (["send", NOBODY], EXIT_USAGE, "Missing argument"),
        (["trace", "0" * 31 + "1"], 1, "no trace"),
        (["trace"], EXIT_USAGE, "--last"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_an_error_is_a_readable_sentence(
    mesh: MeshProcess, arguments: list[str], code: int, words: str
) -> None:
    ended = run_mesh_here("--state", str(mesh.state), *arguments)
    assert ended.exit_code == code, ended.output
    assert words in ended.stderr
    assert isinstance(ended.exception, SystemExit), ended.exception


def test_without_a_mesh_a_command_says_how_to_start_one(tmp_path: Path) -> None:
    ended = run_mesh("--state", str(tmp_path), "tenant", "list")
    assert ended.returncode == EXIT_NO_MESH
    assert "mesh up" in ended.stderr


def test_a_wrong_key_is_told(mesh: MeshProcess) -> None:
    ended = run_mesh_here("--address", mesh.address, "--api-key", "smk_wrong", "tenant", "list")
    assert ended.exit_code == 1
    assert "UNAUTHENTICATED" in ended.stderr
