"""Why no connection comes about, found out by trying: gRPC's own words are for those who know it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from mesh_client.transport import Tls


@dataclass(frozen=True, slots=True)
class Finding:
    """What stands in the way, "" when nothing was found; `lasting` says that waiting will not help."""

    sentence: str
    lasting: bool = False


async def diagnose(routers: Sequence[str], tls: Tls | None) -> Finding:
    """Look at each router, all at the same time."""
    looks = [_look(*address, tls) for router in routers if (address := _host_and_port(router))]
    findings = await asyncio.gather(*looks)
    if not findings or not all(finding.sentence for finding in findings):
        return Finding("")
    return Finding(
        "the mesh cannot be reached: " + "; ".join(finding.sentence for finding in findings),
        all(finding.lasting for finding in findings),
    )


async def _look(host: str, port: int, tls: Tls | None) -> Finding:
    where = f"{host}:{port}"
    try:
        async with asyncio.timeout(_PATIENCE):
            if tls is None:
                return await _look_plainly(host, port)
            return await _look_securely(host, port, tls)
    except TimeoutError:
        return Finding(f"{where} does not answer")
    except socket.gaierror as error:
        return Finding(f"the name {host} cannot be resolved ({error.strerror})")
    except ConnectionRefusedError:
        return Finding(f"nothing listens at {where}")
    except OSError as error:
        return Finding(f"{where} cannot be connected to ({error.strerror or error})")


async def _look_plainly(host: str, port: int) -> Finding:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(_HELLO)
        answer = await reader.read(_FRAME_HEADER)
    except ConnectionResetError:
        answer = b""
    finally:
        writer.transport.abort()
    if answer[3:4] == _SETTINGS:
        return Finding("")  # what a gRPC server says first
    if await _speaks_tls(host, port):
        return Finding(f"{host}:{port} speaks TLS: connect with tls=Tls(ca=...)", lasting=True)
    if not answer:
        return Finding(f"{host}:{port} closes connections at once")
    return Finding(f"what listens at {host}:{port} does not speak gRPC", lasting=True)


async def _look_securely(host: str, port: int, tls: Tls) -> Finding:
    where = f"{host}:{port}"
    context = ssl.create_default_context(cadata=tls.ca.decode("latin-1") if tls.ca else None)
    context.set_alpn_protocols(["h2"])
    try:
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLCertVerificationError as error:
        return Finding(f"the certificate of {where} is not accepted ({error.verify_message})", lasting=True)
    except ssl.SSLError:
        if await _speaks_tls(host, port):
            return Finding(f"{where} refuses our TLS", lasting=True)
        return Finding(f"{where} does not speak TLS: connect without tls", lasting=True)
    try:
        # With TLS 1.3 a server that misses a certificate of ours goes only now, and not always with a word.
        writer.write(_HELLO)
        answer = await reader.read(_FRAME_HEADER)
    except (ssl.SSLError, ConnectionResetError):
        answer = b""
    finally:
        writer.transport.abort()
    if answer[3:4] == _SETTINGS:
        return Finding("")
    if not answer and tls.certificate is None:
        return Finding(f"{where} asks for a certificate: Tls(certificate=..., key=...)", lasting=True)
    if not answer:
        return Finding(f"{where} closes connections at once")
    return Finding(f"what listens at {where} does not speak gRPC", lasting=True)


async def _speaks_tls(host: str, port: int) -> bool:
    """Whether a TLS handshake succeeds there, whoever it is."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        _, writer = await asyncio.open_connection(host, port, ssl=context)
    except OSError:  # ssl.SSLError is one
        return False
    writer.transport.abort()
    return True


def _host_and_port(router: str) -> tuple[str, int] | None:
    """None for targets that are not names."""
    if router.startswith("dns:"):
        router = router.rpartition("/")[2].removeprefix("dns:")
    host, _, port = router.rpartition(":")
    if not port.isdecimal() or "," in host or router.startswith(("ipv4:", "ipv6:", "unix")):
        return None
    return host.strip("[]"), int(port)


_PATIENCE = 1.0
_FRAME_HEADER = 9
_SETTINGS = b"\x04"
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
