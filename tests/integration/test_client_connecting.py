"""What somebody sees whose address, key or TLS settings are wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from mesh_client import InvalidArgument, Tls, Unavailable, connect
from mesh_client.retries import Unreachable
from sessionmesh.v1 import account_pb2, account_pb2_grpc
from tests.support.authority import Authority
from tests.support.fake_router import fake_router
from tests.support.relay import relay_to

SOON = 8.0


class Accounts(account_pb2_grpc.AccountServiceServicer):
    async def GetAccount(self, request: Any, context: Any) -> Any:
        return account_pb2.GetAccountResponse(account=account_pb2.Account(id=request.account_id))


ADD = account_pb2_grpc.add_AccountServiceServicer_to_server


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "mesh-ca")


def server_credentials(authority: Authority, *, mutual: bool = False) -> grpc.ServerCredentials:
    certificate, key = authority.issue("router")
    return grpc.ssl_server_credentials(
        [(key.read_bytes(), certificate.read_bytes())],
        root_certificates=authority.ca.read_bytes() if mutual else None,
        require_client_auth=mutual,
    )


async def failure(target: str, tls: Tls | None = None, *, at_once: bool = False) -> str:
    """What a call there is answered; `at_once` says that it is not worth trying until the timeout."""
    request = account_pb2.GetAccountRequest(account_id="acc_1")
    async with connect(target, "key", tls=tls) as client, asyncio.timeout(SOON):
        with pytest.raises(Unavailable) as raised:
            await client.accounts.GetAccount(request, timeout=2 * SOON if at_once else 3)
    assert raised.value.code is StatusCode.UNAVAILABLE
    return str(raised.value)


@pytest.mark.slow
async def test_nothing_listens(free_port: int) -> None:
    said = await failure(f"127.0.0.1:{free_port}")
    assert said == f"UNAVAILABLE: the mesh cannot be reached: nothing listens at 127.0.0.1:{free_port}"


@pytest.mark.slow
async def test_the_cause_in_words_does_not_hide_that_a_call_was_never_sent(free_port: int) -> None:
    request = account_pb2.GetAccountRequest(account_id="acc_1")
    async with connect(f"127.0.0.1:{free_port}", "key") as client, asyncio.timeout(SOON):
        with pytest.raises(Unreachable, match="nothing listens"):
            await client.accounts.GetAccount(request, timeout=3)


@pytest.mark.slow
async def test_none_of_several_listens(free_port: int) -> None:
    said = await failure(f"127.0.0.1:{free_port}, localhost:{free_port}")
    assert said.count("nothing listens at") == 2


@pytest.mark.slow
async def test_a_name_that_nobody_has() -> None:
    assert "mesh.invalid cannot be resolved" in await failure("mesh.invalid:7600")


async def test_tls_is_forgotten(authority: Authority) -> None:
    async with fake_router({ADD: Accounts()}, credentials=server_credentials(authority)) as router:
        said = await failure(router.address, at_once=True)
    assert said.endswith(f"{router.address} speaks TLS: connect with tls=Tls(ca=...)")


async def test_tls_is_not_spoken(authority: Authority) -> None:
    async with fake_router({ADD: Accounts()}) as router:
        said = await failure(router.address, Tls(ca=authority.ca.read_bytes()), at_once=True)
    assert said.endswith(f"{router.address} does not speak TLS: connect without tls")


async def test_the_certificate_is_another_authoritys(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path, "other-ca")
    async with fake_router({ADD: Accounts()}, credentials=server_credentials(authority)) as router:
        said = await failure(router.address, Tls(ca=other.ca.read_bytes()), at_once=True)
    assert f"the certificate of {router.address} is not accepted" in said


async def test_a_certificate_is_asked_for(authority: Authority) -> None:
    credentials = server_credentials(authority, mutual=True)
    async with fake_router({ADD: Accounts()}, credentials=credentials) as router:
        said = await failure(router.address, Tls(ca=authority.ca.read_bytes()), at_once=True)
    assert said.endswith(f"{router.address} asks for a certificate: Tls(certificate=..., key=...)")


async def test_tls_and_mutual_tls_work(authority: Authority) -> None:
    ca = authority.ca.read_bytes()
    certificate, key = (path.read_bytes() for path in authority.issue("caller"))
    async with (
        fake_router({ADD: Accounts()}, credentials=server_credentials(authority)) as plain,
        fake_router({ADD: Accounts()}, credentials=server_credentials(authority, mutual=True)) as mutual,
        connect(plain.address, "key", tls=Tls(ca)) as first,
        connect(mutual.address, "key", tls=Tls(ca, certificate, key)) as second,
    ):
        assert (await first.get_account("acc_1")).id == "acc_1"
        assert (await second.get_account("acc_1")).id == "acc_1"


async def test_what_listens_is_no_mesh() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert "does not speak gRPC" in await failure(f"127.0.0.1:{port}", at_once=True)
    server.close()


@pytest.mark.slow
async def test_what_listens_says_nothing() -> None:
    request = account_pb2.GetAccountRequest(account_id="acc_1")
    async with relay_to("127.0.0.1:1") as silent, connect(silent.url, "key") as client:
        silent.hold()
        with pytest.raises(Unavailable, match="does not answer"):
            await client.accounts.GetAccount(request, timeout=SOON)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("", "is empty"),
        ([], "is empty"),
        ("mesh.example.com", "not host:port"),
        ("mesh.example.com:", "not host:port"),
        ("mesh.example.com:99999", "not host:port"),
        ("a:1,,b:2", "not host:port"),
        ("https://mesh.example.com:7600", "without https://"),
        (["xds:///sessionmesh", "a:7600"], "stands alone"),
    ],
)
def test_a_target_that_is_none_is_refused_at_once(target: str | list[str], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said) as raised:
        connect(target, "key")
    assert raised.value.field_violations[0].field == "target"


@pytest.mark.parametrize(
    "target",
    [
        "mesh.example.com:7600",
        "[::1]:7600",
        "a:7600,b:7600",
        ("a:7600", "b:7600"),
        "dns:///mesh.example.com:7600",
        "ipv4:10.0.0.1:7600,10.0.0.2:7600",
        "unix:/run/mesh.sock",
        "dns:7600",
    ],
)
def test_every_form_of_target_is_taken_without_an_event_loop(target: str) -> None:
    connect(target, "key")


@pytest.mark.parametrize("key", ["", "smk_1\n", "smk 1", "smk_é"])
def test_a_key_that_can_be_none_is_refused_at_once_and_not_repeated(key: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        connect("a:7600", key)
    assert raised.value.field_violations[0].field == "api_key"
    assert "smk" not in str(raised.value)


def test_an_unknown_transport_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="auto, xds or plain"):
        connect("a:7600", "key", transport="direct")  # type: ignore[arg-type]  # what a program without types may do
    with pytest.raises(InvalidArgument, match="router's address for plain"):
        connect("xds:///sessionmesh", "key", transport="plain")


def test_an_xds_target_without_a_bootstrap_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("GRPC_XDS_BOOTSTRAP", "GRPC_XDS_BOOTSTRAP_CONFIG"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(InvalidArgument, match="mesh xds-bootstrap"):
        connect("xds:///sessionmesh", "key")
    monkeypatch.setenv("GRPC_XDS_BOOTSTRAP", "bootstrap.json")
    connect("xds:///sessionmesh", "key")
