"""The one xDS bootstrap of a process, and who may set it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mesh_client import Tls
from mesh_client.bootstrap import CONTENT_VARIABLE, FILE_VARIABLE, ProcessBootstrap, bootstrap

A, B = "a:7600", "b:7600"


def test_the_first_mesh_has_it_and_others_do_not() -> None:
    environment: dict[str, str] = {}
    process = ProcessBootstrap(environment)
    assert process.claim([A, B], None)
    content = json.loads(environment[CONTENT_VARIABLE])
    assert [server["server_uri"] for server in content["xds_servers"]] == [A, B]
    assert process.claim([B, A], None)
    assert not process.claim([A], None)
    assert not process.claim([A, B], Tls())
    assert json.loads(environment[CONTENT_VARIABLE]) == content


def test_one_of_the_users_own_is_used_for_its_mesh_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "bootstrap.json"
    file.write_text('{"xds_servers": [{"server_uri": "a:7600"}], "node": {"id": "mine"}}')
    for environment in ({FILE_VARIABLE: str(file)}, {CONTENT_VARIABLE: file.read_text()}):
        before = dict(environment)
        assert ProcessBootstrap(environment).claim([A], None)
        assert not ProcessBootstrap(environment).claim([B], None)
        assert environment == before


@pytest.mark.parametrize("content", ["", "nonsense", "[]", '{"xds_servers": 1}', '{"node": {"id": 1}}'])
def test_one_that_cannot_be_understood_is_left_alone(content: str) -> None:
    environment = {CONTENT_VARIABLE: content}
    assert not ProcessBootstrap(environment).claim([A], None)
    assert environment == {CONTENT_VARIABLE: content}


def test_what_a_client_of_the_parent_process_has_set_is_replaced() -> None:
    environment = {CONTENT_VARIABLE: bootstrap([A], None)}
    assert ProcessBootstrap(environment).claim([B], None)
    assert B in environment[CONTENT_VARIABLE]


def test_certificates_are_passed_in_memory() -> None:
    content = json.loads(bootstrap([A], Tls(b"ca", b"certificate", b"key")))
    files = content["xds_servers"][0]["channel_creds"][0]["config"]
    assert {name: Path(path).read_bytes() for name, path in files.items()} == {
        "ca_certificate_file": b"ca",
        "certificate_file": b"certificate",
        "private_key_file": b"key",
    }
    assert all(path.startswith("/proc/self/fd/") for path in files.values())
    assert files.items() <= content["certificate_providers"]["sessionmesh"]["config"].items()


def test_without_an_authority_the_systems_count() -> None:
    content = json.loads(bootstrap([A], Tls()))
    assert Path(content["xds_servers"][0]["channel_creds"][0]["config"]["ca_certificate_file"]).exists()
