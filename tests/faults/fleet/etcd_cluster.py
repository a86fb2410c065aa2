"""An etcd cluster of three members, each of which may be killed, frozen and started again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import aiohttp

from mesh_cli.embedded import free_port
from mesh_cli.embedded.ports import LOOPBACK
from tests.faults.fleet.servers import Etcd
from tests.support.eventually import eventually
from tests.support.tools import require_tool

MEMBERS = ("one", "two", "three")


class Member(Etcd):
    """One member. `peers` are the URLs of all members by their names."""

    def __init__(self, state: Path, member: str, port: int, peers: dict[str, str]) -> None:
        super().__init__(state / f"etcd-{member}")
        self.member = member
        self._program = require_tool("etcd")
        self._fixed_port = port
        self._peers = peers

    async def _command(self) -> list[str]:
        self._port = self._fixed_port
        client, peer = f"http://{self.url}", self._peers[self.member]
        return [
            str(self._program),
            f"--name={self.member}",
            f"--data-dir={self.data}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            "--initial-cluster=" + ",".join(f"{name}={url}" for name, url in self._peers.items()),
            "--initial-cluster-token=fault-tests",
            "--log-level=warn",
        ]


class EtcdCluster:
    """`url` names all members, as in MESH_ETCD_ENDPOINTS."""

    def __init__(self, state: Path) -> None:
        peers = {name: f"http://{LOOPBACK}:{free_port()}" for name in MEMBERS}
        self.members = [Member(state, name, free_port(), peers) for name in MEMBERS]

    @property
    def url(self) -> str:
        return ",".join(member.url for member in self.members)

    async def start(self) -> str:
        """Start all at once: none answers before a majority is there."""
        await asyncio.gather(*(member.start() for member in self.members))
        return self.url

    async def stop(self) -> None:
        await asyncio.gather(*(member.stop() for member in self.members))

    async def leader(self) -> Member:
        """The member that leads now."""

        async def found() -> Member | None:
            for member in self.members:
                if member.running and await _leads(member.url):
                    return member
            return None

        return await eventually(found, what="a leader of etcd")


async def _leads(endpoint: str) -> bool:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session,
            session.post(f"http://{endpoint}/v3/maintenance/status", data=b"{}") as response,
        ):
            status = json.loads(await response.read())
    except (aiohttp.ClientError, TimeoutError):
        return False
    return bool(status.get("leader") == status["header"]["member_id"])  # without a leader there is no field
