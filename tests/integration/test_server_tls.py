"""TLS and mTLS between the parts of the mesh."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509
from google.protobuf.wrappers_pb2 import StringValue
from prometheus_client import REGISTRY

from mesh_core.rpc.channels import open_channel
from mesh_core.rpc.server import Server
from mesh_core.rpc.tls import ChannelTls
from mesh_core.settings import ServerSettings
from tests.support.authority import Authority
from tests.support.probe_service import MESH, Echo, ProbeStub, add_probe_to_server, make_server


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "mesh-ca")


@pytest.fixture
async def mutual(authority: Authority) -> AsyncIterator[tuple[Server, ServerSettings]]:
    """A server that asks for certificates of the authority."""
    certificate, key = authority.issue("node")
    settings = ServerSettings(
        tls_certificate=str(certificate), tls_key=str(key), tls_client_ca=str(authority.ca)
    )
    server = make_server(settings)
    server.add(add_probe_to_server, Echo())
    await server.start()
    yield server, settings
    await server.stop()


async def call(address: str, tls: ChannelTls | None) -> str:
    async with open_channel(address, tls=tls) as channel:
        answer = await ProbeStub(channel).Unary(StringValue(value="x"), metadata=MESH, timeout=10)
        return str(answer.value)


async def test_parts_of_the_mesh_show_each_other_the_certificate_that_they_serve_with(
    mutual: tuple[Server, ServerSettings],
) -> None:
    server, settings = mutual
    assert await call(server.address, ChannelTls.of(settings)) == "x"


async def test_a_server_shows_when_its_certificates_end(
    mutual: tuple[Server, ServerSettings], authority: Authority
) -> None:
    _, settings = mutual
    files = {"server": Path(settings.tls_certificate), "client_ca": authority.ca}
    for name, file in files.items():
        [certificate] = x509.load_pem_x509_certificates(file.read_bytes())
        end = certificate.not_valid_after_utc.timestamp()
        shown = REGISTRY.get_sample_value(
            "mesh_tls_certificate_expiry_timestamp_seconds", {"certificate": name}
        )
        assert shown == end


async def test_a_caller_without_a_certificate_is_refused(
    mutual: tuple[Server, ServerSettings], authority: Authority
) -> None:
    server, _ = mutual
    for tls in (None, ChannelTls(authority.ca.read_bytes())):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(server.address, tls)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_caller_of_another_authority_is_refused(
    mutual: tuple[Server, ServerSettings], authority: Authority, tmp_path: Path
) -> None:
    server, _ = mutual
    certificate, key = Authority(tmp_path, "other-ca").issue("stranger")
    stranger = ChannelTls(authority.ca.read_bytes(), certificate.read_bytes(), key.read_bytes())
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(server.address, stranger)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_without_a_client_ca_only_the_server_shows_a_certificate(authority: Authority) -> None:
    certificate, key = authority.issue("node")
    server = make_server(ServerSettings(tls_certificate=str(certificate), tls_key=str(key)))
    server.add(add_probe_to_server, Echo())
    await server.start()
    async with asyncio.timeout(20):
        assert await call(server.address, ChannelTls(authority.ca.read_bytes())) == "x"
    await server.stop()
