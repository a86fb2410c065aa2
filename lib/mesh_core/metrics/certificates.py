"""When the certificates end that a process was started with."""

from __future__ import annotations

from cryptography import x509

from mesh_core.metrics.catalogue import gauges

_EXPIRY = gauges(
    "mesh_tls_certificate_expiry_timestamp_seconds",
    "When the first certificate of a file ends that this process was started with, since 1970.",
    answers="Which certificate must be renewed, and was the process started again since?",
    certificate=("server", "client_ca", "etcd", "etcd_ca"),
)


def show_expiry(certificate: str, pem: bytes) -> None:
    """Show when the first of these certificates ends. Raises `ValueError` when there is none."""
    ends = [one.not_valid_after_utc for one in x509.load_pem_x509_certificates(pem)]
    _EXPIRY.labels(certificate).set(min(ends).timestamp())
