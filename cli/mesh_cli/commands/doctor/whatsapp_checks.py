"""`mesh doctor --whatsapp`: what can be known of real accounts' way to WhatsApp without an account."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from collections.abc import Iterable
from email.utils import parsedate_to_datetime

import aiohttp

from mesh_cli.commands.doctor.findings import Finding, good, judged, wrong
from mesh_session_node.drivers.whatsapp_web.process import NoSidecar, find_program
from mesh_session_node.drivers.whatsapp_web.settings import WhatsappWebSettings
from mesh_session_node.drivers.whatsapp_web.sidecar import Sidecar, SidecarFailed
from sessionmesh.internal.v1 import linked_device_pb2 as pb

PLACE = "https://web.whatsapp.com"
SECONDS = 10.0
MOST_SECONDS_OFF = 60.0
"""A clock that is further off makes logins fail."""
MOST_PAGE_BYTES = 4 * 1024 * 1024
_BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0"
}
_REVISION = re.compile(rb'client_revision\\?":\s?(\d+)')
_UNKNOWN = good(
    "not known",
    "whether WhatsApp takes this client, links a passkey account, or bans: docs/whatsapp.md, the first day",
)


def whatsapp_checks(place: str = PLACE) -> list[Finding]:
    """Look at the sidecar, and at `place`, an URL."""
    return asyncio.run(_checks(place))


async def _checks(place: str) -> list[Finding]:
    sidecar, runs = await _sidecar()
    return [*sidecar, *await _network(place, runs), _UNKNOWN]


async def _sidecar() -> tuple[list[Finding], pb.SidecarStarted | None]:
    """Ask the sidecar what it is."""
    named = os.environ.get("MESH_WHATSAPP_WEB_SIDECAR", "")
    try:
        program = find_program(named)
        runs = await Sidecar(WhatsappWebSettings(sidecar=named)).ask_version()
    except NoSidecar as error:
        return [wrong("sidecar", str(error), "See docs/whatsapp.md.")], None
    except (SidecarFailed, OSError) as error:
        return [wrong("sidecar", f"{program}: {error}", "Build or install it again.")], None
    seen = f"{program} {runs.version}, whatsmeow {runs.library_version}, WhatsApp Web {runs.client_version}"
    return [good("sidecar", seen)], runs


async def _network(place: str, runs: pb.SidecarStarted | None) -> list[Finding]:
    host = place.partition("://")[2].partition("/")[0].partition(":")[0]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    except OSError as error:
        return [wrong("name", f"{host} cannot be resolved: {error}", "Check the resolver.")]
    findings = [good("name", f"{host} is {_some(address[4][0] for address in found)}")]
    timeout = aiohttp.ClientTimeout(total=SECONDS)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=_BROWSER) as session,
            session.get(place) as page,
        ):
            date, body = page.headers.get("Date", ""), await page.content.read(MOST_PAGE_BYTES)
    except (aiohttp.ClientError, TimeoutError) as error:
        remedy = "Port 443 of WhatsApp must be open to nodes, and nothing between may end TLS."
        return [*findings, wrong("TLS", f"{place}: {error or 'no answer'}", remedy)]
    findings.append(good("TLS", f"{place} answers with a certificate that is trusted"))
    if date:
        findings.append(_clock(date, time.time()))
    if runs is not None:
        findings.append(_version(runs.client_version, body))
    return findings


def _clock(date: str, now: float) -> Finding:
    try:
        off = now - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return good("clock", "WhatsApp did not say what time it is")
    close = abs(off) <= MOST_SECONDS_OFF
    return judged("clock", close, f"{off:+.0f} s from WhatsApp's", "Set the clock, by NTP.")


def _version(ours: str, page: bytes) -> Finding:
    """How old the client is that the sidecar says it is; only WhatsApp knows when that is too old."""
    newest = _REVISION.search(page)
    if newest is None:
        return good("client version", f"{ours}; WhatsApp's page does not say which is the newest")
    seen = f"{ours}; WhatsApp serves revision {newest.group(1).decode()}. Too old a one is refused at login"
    return good("client version", seen)


def _some(addresses: Iterable[object]) -> str:
    return ", ".join(sorted({str(address) for address in addresses})[:3])
