"""TLS between the parts of the mesh: each shows its peers the certificate that it serves with."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mesh_core.settings import ServerSettings


@dataclass(frozen=True, slots=True)
class ChannelTls:
    """PEM contents: the authority to check servers against, and this side's own certificate for mTLS."""

    ca: bytes
    certificate: bytes | None = None
    key: bytes | None = None

    @classmethod
    def of(cls, settings: ServerSettings) -> Self | None:
        """What a part of the mesh shows its peers: the certificate that it serves with. None without TLS."""
        if not settings.tls_certificate:
            return None
        certificate = Path(settings.tls_certificate).read_bytes()
        ca = Path(settings.tls_client_ca).read_bytes() if settings.tls_client_ca else certificate
        return cls(ca, certificate, Path(settings.tls_key).read_bytes())


def client_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """The context to connect to peers that have settings like ours; None without TLS."""
    if not settings.tls_certificate:
        return None
    context = ssl.create_default_context(cafile=settings.tls_client_ca or settings.tls_certificate)
    context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    return context


def server_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """The context to accept peers with; None without TLS."""
    if not settings.tls_certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    if settings.tls_client_ca:
        context.load_verify_locations(settings.tls_client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
