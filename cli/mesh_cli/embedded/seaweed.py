"""An S3 for one machine: SeaweedFS, from the wheel that the extra `s3` brings, or from PATH."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from mesh_cli.embedded.errors import ServerFailed
from mesh_cli.embedded.ports import LOOPBACK
from mesh_cli.embedded.server import EmbeddedServer
from mesh_cli.embedded.sockets import connect


@dataclass(frozen=True, slots=True)
class S3Keys:
    """What callers sign with: made once for a directory, and kept in it."""

    access_key: str
    secret_key: str


class EmbeddedS3(EmbeddedServer):
    """`url` is as in MESH_OBJECTS_URL. One process is all of SeaweedFS; what its parts say to each other is
    signed, and goes over ports of loopback.
    """

    name = "s3"
    # Told to end, it waits 10 s for connections between its own parts. What it has answered is in its files.
    stop_signal = signal.SIGKILL

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self.keys = S3Keys("", "")
        self._port = 0

    @property
    def endpoint(self) -> str:
        """An http URL; only after `start`."""
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def url(self) -> str:
        """Of the bucket that the mesh uses, which is made by who uses it first."""
        return "s3://sessionmesh"

    async def _prepare(self) -> None:
        (self.directory / "data").mkdir(exist_ok=True)
        identities = self.directory / "identities.json"
        if not identities.exists():
            _write_private(identities, json.dumps(_identities(secrets.token_hex(8), secrets.token_hex(24))))
        self.keys = stored_keys(self.directory)
        security = self.directory / "security.toml"  # read from the working directory
        if not security.exists():
            _write_private(security, _SECURITY.format(*(secrets.token_hex(24) for _ in range(4))))

    async def _command(self) -> list[str]:
        self._port = self._ports.port("s3")
        ports = {
            "s3.port": self._port,
            **{f"{part}.port": self._ports.port(part) for part in ("master", "volume", "filer")},
            **{f"{part}.port.grpc": self._ports.port(f"{part} grpc") for part in _PARTS},
        }
        settings = {
            "dir": self.directory / "data",
            "ip": LOOPBACK,
            "ip.bind": LOOPBACK,
            "filer": "true",
            "filer.localSocket": self.directory / "filer.sock",
            "master.electionTimeout": "1s",  # a lone one waits for it at each start
            "master.heartbeatInterval": "100ms",
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 1024,
            "s3": "true",
            "s3.config": self.directory / "identities.json",
            "s3.iam": "false",
            "s3.localSocket": self.directory / "s3.sock",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "volume.max": 0,
            "volume.preStopSeconds": 0,
            **ports,
        }
        return [str(_program()), "-logtostderr=true", "server", *(f"-{k}={v}" for k, v in settings.items())]

    async def _ready(self) -> bool:
        """It refuses who has no key, and its part that has the bytes is known to the one that knows where."""
        if b" 403 " not in await _answer(self._port, "/"):
            return False
        return b'"DataNodes"' in await _answer(self._ports.port("master"), "/dir/status")


def stored_keys(directory: Path) -> S3Keys:
    """The keys of the S3 whose data are in this directory."""
    [identity] = json.loads((directory / "identities.json").read_text())["identities"]
    [keys] = identity["credentials"]
    return S3Keys(keys["accessKey"], keys["secretKey"])


async def _answer(port: int, path: str) -> bytes:
    connection = await connect(None, port)
    if connection is None:
        return b""
    reader, writer = connection
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


def _program() -> Path:
    """The wheel's program is beside our own Python; it answers no `--version`, so any one will do."""
    found = shutil.which(
        "weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    )
    if found is None:
        raise ServerFailed("s3", "has no program: install the extra `s3` (pip install 'sessionmesh[s3]')")
    return Path(found)


def _identities(access_key: str, secret_key: str) -> dict[str, object]:
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return {"identities": [{"name": "mesh", "credentials": credentials, "actions": actions}]}


def _write_private(place: Path, text: str) -> None:
    with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


_PARTS = ("master", "volume", "filer", "s3")
# Who has none of these keys reads and writes nothing through the ports of its parts.
_SECURITY = """[jwt.signing]
key = "{}"
[jwt.signing.read]
key = "{}"
[jwt.filer_signing]
key = "{}"
[jwt.filer_signing.read]
key = "{}"
"""
