"""Unix sockets in folders that only we, and root, may enter, and connections to them."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import tempfile
from pathlib import Path

from mesh_cli.embedded.errors import ServerFailed
from mesh_cli.embedded.ports import LOOPBACK

PATH_BYTES = 107
"""Most that a socket's path may have."""


def private_folder(server: str, directory: Path, socket: str) -> Path:
    """The folder for the socket named `socket` of a server with this directory: always the same one.

    It is in the directory, or in the folder for temporary files where that path would be too long, or has a
    comma, which parts addresses. Raises `ServerFailed` when somebody else has made that one.
    """
    folder = directory / "sockets"
    if len(os.fsencode(folder / socket)) > PATH_BYTES or "," in str(folder):
        name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"sessionmesh-{os.geteuid()}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise ServerFailed(server, f"cannot have its socket in {folder}, which is another user's")
    folder.chmod(0o700)
    return folder


async def connect(socket: Path | None, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """A connection to a socket, or to a port of loopback where that is None; None when nobody listens."""
    try:
        if socket is not None:
            return await asyncio.open_unix_connection(socket)
        return await asyncio.open_connection(LOOPBACK, port)
    except (ConnectionRefusedError, FileNotFoundError):
        return None
