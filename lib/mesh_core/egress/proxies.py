"""The proxies that callers name for their own connections: where one may be, and how it is written."""

from __future__ import annotations

import asyncio
from urllib.parse import SplitResult, unquote, urlsplit

from mesh_core.egress.addresses import AddressForbidden, literal_address
from mesh_core.egress.resolver import CheckedResolver
from mesh_core.egress.targets import MAX_URL_LENGTH, RESOLVE_SECONDS, is_host_name
from mesh_core.errors import FailedPrecondition, InvalidField

PROXY_PORTS = {"http": 80, "https": 443, "socks5": 1080}
"""The kinds of proxies, and the port of each where the URL names none."""
MAX_CREDENTIAL = 255
"""Bytes of a user's name, and of a password: SOCKS has no room for more."""


async def check_proxy(field: str, url: str, resolver: CheckedResolver) -> str:
    """The URL of a proxy. One whose name does not resolve passes: it may come to. What is raised never has
    the URL in it, since that may have a password.

    Raises `InvalidField`, or `FailedPrecondition` ADDRESS_FORBIDDEN.
    """
    if len(url) > MAX_URL_LENGTH:
        raise InvalidField(field, f"must be at most {MAX_URL_LENGTH} characters long")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidField(field, "must be printable ASCII: encode other characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidField(field, "is not a URL") from None
    if parts.scheme not in PROXY_PORTS or not host:
        raise InvalidField(field, "must be http://..., https://... or socks5://...")
    if literal_address(host) is None and not is_host_name(host):
        raise InvalidField(field, "must have a host name of letters, digits and hyphens between dots")
    if port == 0:
        raise InvalidField(field, "must have a port from 1 to 65535")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise InvalidField(field, "must end after the host and the port")
    if any(len(unquote(part or "").encode()) > MAX_CREDENTIAL for part in (parts.username, parts.password)):
        raise InvalidField(field, f"must have a user and a password of at most {MAX_CREDENTIAL} bytes")
    if parts.scheme == "socks5" and parts.password and not parts.username:
        raise InvalidField(field, "must have a user where it has a password")
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            await proxy_address(parts, resolver)
    except AddressForbidden as error:
        raise FailedPrecondition(f"{field}: {error}", "ADDRESS_FORBIDDEN") from None
    except (OSError, TimeoutError):
        pass
    return url


async def proxy_address(parts: SplitResult, resolver: CheckedResolver) -> tuple[str, int]:
    """The address to connect to for a proxy, and its port. Raises `AddressForbidden`, and `OSError` where its
    name has no address.
    """
    host = parts.hostname or ""
    port = parts.port or PROXY_PORTS[parts.scheme]
    resolver.check_literal(host)
    if literal_address(host) is not None:
        return host, port
    found = await resolver.resolve(host, port)
    return found[0]["host"], port
