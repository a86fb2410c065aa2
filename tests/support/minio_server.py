"""The MinIO server of `make tools`, for tests that need a real S3."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Mapping
from pathlib import Path

from mesh_cli.embedded.ports import LOOPBACK
from mesh_cli.embedded.server import EmbeddedServer

KMS_KEY = "key-of-the-tests"
"""What it can encrypt objects with."""

DOMAIN = "s3.test"
"""Of which its buckets are subdomains for whoever asks it by such a name."""


class EmbeddedMinio(EmbeddedServer):
    """`url` is `http://access:secret@127.0.0.1:port`."""

    name = "minio"

    def __init__(self, state: Path, program: Path) -> None:
        super().__init__(state)
        self._program = program
        self._port = 0
        self._access_key = secrets.token_hex(8)
        self._secret_key = secrets.token_hex(16)

    @property
    def url(self) -> str:
        return f"http://{self._access_key}:{self._secret_key}@{LOOPBACK}:{self._port}"

    async def _command(self) -> list[str]:
        self._port = self._ports.port("clients")
        data = str(self.directory / "data")
        return [str(self._program), "server", "--quiet", f"--address={LOOPBACK}:{self._port}", data]

    def _environment(self) -> Mapping[str, str]:
        return {
            "MINIO_ROOT_USER": self._access_key,
            "MINIO_ROOT_PASSWORD": self._secret_key,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "MINIO_DOMAIN": DOMAIN,
            "MINIO_KMS_SECRET_KEY": f"{KMS_KEY}:{base64.b64encode(bytes(32)).decode()}",
        }

    async def _ready(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
        except ConnectionRefusedError:
            return False
        try:
            # Without a Host it takes every request for a broken S3 one.
            writer.write(b"GET /minio/health/cluster HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return b" 200 " in await reader.readline()
        except ConnectionError:
            return False
        finally:
            writer.close()
