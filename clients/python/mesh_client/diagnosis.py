"""Why no connection comes about, found out by trying: gRPC's own words are for those who know it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from mesh_client.channels import Tls


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a router cannot be reached, "" when nothing is wrong; `lasting`: waiting will not help."""

    sentence: str
    lasting: bool = False


async def diagnose(routers: Sequence[str], tls: Tls | None) -> Diagnosis:
    """Connects to all routers at the same time, and says what is wrong if none of them can be used."""
    checks = [_check(*address, tls) for router in routers if (address := _host_and_port(router))]
    diagnoses = await asyncio.gather(*checks)
    if not diagnoses or not all(diagnosis.sentence for diagnosis in diagnoses):
        return Diagnosis("")
    return Diagnosis(
        "the mesh cannot be reached: " + "; ".join(diagnosis.sentence for diagnosis in diagnoses),
        all(diagnosis.lasting for diagnosis in diagnoses),
    )


async def _check(host: str, port: int, tls: Tls | None) -> Diagnosis:
    where = f"{host}:{port}"
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            if tls is None:
                return await _check_plaintext(host, port)
            return await _check_tls(host, port, tls)
    except TimeoutError:
        return Diagnosis(f"{where} does not answer")
    except socket.gaierror as error:
        return Diagnosis(f"the name {host} cannot be resolved ({error.strerror})")
    except ConnectionRefusedError:
        return Diagnosis(f"nothing listens at {where}")
    except OSError as error:
        return Diagnosis(f"{where} cannot be connected to ({error.strerror or error})")


async def _check_plaintext(host: str, port: int) -> Diagnosis:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(_CLIENT_PREFACE)
        answer = await reader.read(_FRAME_HEADER_BYTES)
    except ConnectionResetError:
        answer = b""
    finally:
        writer.transport.abort()
    if answer[3:4] == _SETTINGS_FRAME:
        return Diagnosis("")  # what a gRPC server says first
    if await _speaks_tls(host, port):
        return Diagnosis(f"{host}:{port} speaks TLS: connect with tls=Tls(ca=...)", lasting=True)
    if not answer:
        return Diagnosis(f"{host}:{port} closes connections at once")
    return Diagnosis(f"what listens at {host}:{port} does not speak gRPC", lasting=True)


async def _check_tls(host: str, port: int, tls: Tls) -> Diagnosis:
    where = f"{host}:{port}"
    context = ssl.create_default_context(cadata=tls.ca.decode("latin-1") if tls.ca else None)
    context.set_alpn_protocols(["h2"])
    try:
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLCertVerificationError as error:
        return Diagnosis(f"the certificate of {where} is not accepted ({error.verify_message})", lasting=True)
    except ssl.SSLError:
        if await _speaks_tls(host, port):
            return Diagnosis(f"{where} refuses our TLS", lasting=True)
        return Diagnosis(f"{where} does not speak TLS: connect without tls", lasting=True)
    try:
        # With TLS 1.3 a server that misses a client certificate closes only now, perhaps without an alert.
        writer.write(_CLIENT_PREFACE)
        answer = await reader.read(_FRAME_HEADER_BYTES)
    except (ssl.SSLError, ConnectionResetError):
        answer = b""
    finally:
        writer.transport.abort()
    if answer[3:4] == _SETTINGS_FRAME:
        return Diagnosis("")
    if not answer and tls.certificate is None:
        return Diagnosis(f"{where} asks for a certificate: Tls(certificate=..., key=...)", lasting=True)
    if not answer:
        return Diagnosis(f"{where} closes connections at once")
    return Diagnosis(f"what listens at {where} does not speak gRPC", lasting=True)


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
    """None for a target that is no host name and port."""
    if router.startswith("dns:"):
        router = router.rpartition("/")[2].removeprefix("dns:")
    host, _, port = router.rpartition(":")
    if not port.isdecimal() or "," in host or router.startswith(("ipv4:", "ipv6:", "unix")):
        return None
    return host.strip("[]"), int(port)


_TIMEOUT_SECONDS = 1.0
_FRAME_HEADER_BYTES = 9
_SETTINGS_FRAME = b"\x04"
_CLIENT_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
