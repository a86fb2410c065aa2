"""TLS of exchanges: the same certificates as those of the server's gRPC port."""

from __future__ import annotations

import ssl

from mesh_core.settings import ServerSettings


def client_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """How to connect to peers with settings like ours; None without TLS."""
    if not settings.tls_certificate:
        return None
    context = ssl.create_default_context(cafile=settings.tls_client_ca or settings.tls_certificate)
    context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    return context


def server_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """How to be connected to; None without TLS."""
    if not settings.tls_certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    if settings.tls_client_ca:
        context.load_verify_locations(settings.tls_client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
