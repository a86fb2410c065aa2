"""nginx as a router: `grpc_pass` to servers chosen by a consistent hash of the account's header."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mesh_cli.embedded import free_port

PROGRAM = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin") or shutil.which(
    "nginx"
)


@dataclass(frozen=True, slots=True)
class Nginx:
    """One process of it."""

    address: str
    pid: int


@contextlib.asynccontextmanager
async def nginx(servers: Sequence[str]) -> AsyncIterator[Nginx]:
    """One that serves; raises `RuntimeError` with what it said when it does not."""
    assert PROGRAM is not None
    with tempfile.TemporaryDirectory(prefix="mesh-bench-nginx-") as folder:
        address = f"127.0.0.1:{free_port()}"
        configuration = Path(folder) / "nginx.conf"
        listed = " ".join(f"server {server};" for server in servers)
        configuration.write_text(_CONFIGURATION.format(folder=folder, servers=listed, address=address))
        process = await asyncio.create_subprocess_exec(
            PROGRAM, "-c", str(configuration), "-p", folder, "-e", f"{folder}/error.log"
        )
        try:
            await _until_it_listens(process, address, Path(folder) / "error.log")
            yield Nginx(address, process.pid)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _until_it_listens(process: asyncio.subprocess.Process, address: str, log: Path) -> None:
    host, _, port = address.rpartition(":")
    while process.returncode is None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            return
        await asyncio.sleep(0.05)
    raise RuntimeError(f"nginx ended: {await asyncio.to_thread(log.read_text)}")


# One process, as the router is one; connections and their requests are not limited.
_CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream nodes {{
    hash $http_x_account_id consistent;
    {servers}
    keepalive 128;
    keepalive_requests 1000000000;
    keepalive_time 1d;
  }}
  server {{
    listen {address} http2;
    keepalive_requests 1000000000;
    keepalive_time 1d;
    keepalive_timeout 1d;
    location / {{ grpc_pass grpc://nodes; }}
  }}
}}
"""
