"""What callers may say of a request that the mesh makes for them: its address, and its headers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from mesh_core.egress.addresses import AddressForbidden, literal_address
from mesh_core.egress.resolver import CheckedResolver
from mesh_core.errors import FailedPrecondition, InvalidField

MAX_URL_LENGTH = 2048
MAX_HEADERS = 16
MAX_HEADER_NAME = 128
MAX_HEADER_LENGTH = 1024
RESOLVE_SECONDS = 3.0
"""How long a check may take to look a name up."""


async def check_url(field: str, url: str, resolver: CheckedResolver, *, allow_http: bool) -> str:
    """A web address that the mesh may ask. One whose name does not resolve passes: it may come to.

    Raises `InvalidField`, or `FailedPrecondition` ADDRESS_FORBIDDEN.
    """
    if not url:
        raise InvalidField(field, "is required")
    if len(url) > MAX_URL_LENGTH:
        raise InvalidField(field, f"must be at most {MAX_URL_LENGTH} characters long")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidField(field, f"is not a URL: {error}") from None
    if not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidField(field, "must be printable ASCII: encode other characters")
    if parts.scheme not in ("https", "http") or not host:
        raise InvalidField(field, "must be https://...")
    if literal_address(host) is None and not is_host_name(host):
        raise InvalidField(field, "must have a host name of letters, digits and hyphens between dots")
    if parts.scheme == "http" and not allow_http:
        raise InvalidField(field, "must be https://...: plain http is not allowed here")
    if parts.username is not None or parts.password is not None:
        raise InvalidField(field, "must not have a user or password: put them into a header")
    if parts.fragment:
        raise InvalidField(field, "must not have a #fragment")
    try:
        resolver.check_literal(host)
        async with asyncio.timeout(RESOLVE_SECONDS):
            await resolver.resolve(host, parts.port or 443)
    except AddressForbidden as error:
        raise FailedPrecondition(f"{field}: {error}", "ADDRESS_FORBIDDEN") from None
    except (OSError, TimeoutError):
        pass
    return url


def check_headers(field: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Headers of a request; none that HTTP sets itself. Raises `InvalidField`."""
    if len(headers) > MAX_HEADERS:
        raise InvalidField(field, f"must have at most {MAX_HEADERS} entries")
    if len({name.lower() for name in headers}) < len(headers):
        raise InvalidField(field, "must not name a header twice: case does not matter")
    for name, value in headers.items():
        if not _is_token(name) or len(name) > MAX_HEADER_NAME:
            raise InvalidField(field, f"{name[:64]!r} is no name of a header")
        if name.lower() in _OF_HTTP or name.lower().startswith("proxy-"):
            raise InvalidField(field, f"{name} is set by the mesh or by HTTP itself")
        if len(value) > MAX_HEADER_LENGTH or not _is_header_value(value):
            raise InvalidField(
                f"{field}[{name}]", f"must be at most {MAX_HEADER_LENGTH} printable ASCII characters"
            )
    return dict(headers)


def is_host_name(host: str) -> bool:
    """Whether a name server could know it: labels of 1 to 63, 253 characters in all; underscores occur."""
    name = host.removesuffix(".")
    return len(name) <= _MAX_HOST and all(_is_label(label) for label in name.split("."))


_MAX_HOST = 253
_is_label = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?").fullmatch
_is_token = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_is_header_value = re.compile(r"[\t\x20-\x7e]*").fullmatch
_OF_HTTP = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "keep-alive",
        "te",
        "traceparent",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
    }
)
