"""`mesh top` on a running mesh, as a script and in a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.eventually import wait_until
from tests.support.mesh_api import unique
from tests.support.mesh_process import MeshProcess, clean_environment, run_mesh_here

SECONDS = 30.0


@pytest.mark.usefixtures("fleet_at_rest")
async def test_a_script_gets_one_object_with_every_part(mesh: MeshProcess) -> None:
    ended = run_mesh_here("--state", str(mesh.state), "top", "--json", "--interval", "0.5")
    assert ended.exit_code == 0, ended.output
    seen = json.loads(ended.stdout)
    assert {part["name"] for part in seen["parts"] if part["answers"]} == set(mesh.file.parts)
    assert seen["fleet"]["nodes"] == {"active": 3}
    assert {one["name"] for one in seen["dependencies"] if one["answers"]} >= {"etcd", "Postgres"}
    assert seen["messages"]["sent_per_second"] >= 0
    assert seen["webhooks"]["pending"] >= 0


@pytest.mark.usefixtures("fleet_at_rest")
async def test_where_a_part_runs_etcd_knows_the_other_parts(
    mesh: MeshProcess, shared_servers: dict[str, str], tmp_path: Path
) -> None:
    named = shared_servers | {"MESH_ETCD_ENDPOINTS": mesh.file.servers["MESH_ETCD_ENDPOINTS"]}
    there = ("--state", str(tmp_path), "--address", mesh.address, "--api-key", mesh.file.admin_key)
    ended = run_mesh_here(*there, "top", "--json", "--interval", "0.5", **named)
    seen = json.loads(ended.stdout)
    told = {part["name"].partition(" ")[0] for part in seen["parts"] if part["memory_bytes"]}
    assert told == {"node-1", "node-2", "node-3", "router", "media", "webhook", "simulator"}
    assert seen["webhooks"]["pending"] >= 0


def test_a_tenants_key_is_refused_in_a_sentence(mesh: MeshProcess) -> None:
    here = ("--state", str(mesh.state))
    tenant = unique("tenant")
    assert run_mesh_here(*here, "tenant", "create", tenant).exit_code == 0
    made = run_mesh_here(*here, "key", "create", "--tenant", tenant, "--scope", "read", "--json")
    key = json.loads(made.stdout)["secret"]
    ended = run_mesh_here("--address", mesh.address, "--api-key", key, "top", "--once")
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert "takes an administrator's key" in ended.stderr


@pytest.fixture
def screen() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal of 80 columns and 24 lines: ours, and the program's."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.set_blocking(ours, False)
    yield ours, its
    os.close(ours)
    os.close(its)


def test_it_fills_a_terminal_and_leaves_it_as_it_was(mesh: MeshProcess, screen: tuple[int, int]) -> None:
    ours, its = screen
    before = termios.tcgetattr(its)
    shown = b""

    def has_shown(words: bytes) -> bool:
        nonlocal shown
        with suppress(BlockingIOError):
            shown += os.read(ours, 1 << 16)
        return words in shown

    program = subprocess.Popen(
        [sys.executable, "-m", "mesh_cli", "--state", str(mesh.state), "top", "--interval", "0.5"],
        env={**clean_environment(), "TERM": "xterm"},
        stdin=its,
        stdout=its,
        stderr=its,
    )
    try:
        wait_until(lambda: has_shown(b"loop lag"), SECONDS, "the picture")
        assert termios.tcgetattr(its) != before
        os.write(ours, b"q")
        wait_until(lambda: has_shown(b"\x1b[?1049l"), SECONDS, "the screen of before")
        assert program.wait(SECONDS) == 0
    finally:
        program.kill()
        program.wait()
    assert termios.tcgetattr(its) == before
