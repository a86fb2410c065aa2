"""Baileys, a client of WhatsApp Web by another hand than the mesh's, as a program that tests run."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sessionmesh.simulator.v1 import simulator_pb2 as api
from tests.acceptance.builds import built_once, run
from tests.support.tools import missing_tool, require_on_path

PROJECT = Path(__file__).parent / "baileys_client"
LEAST_NODE = (20, 19)
LINE_SECONDS = 120.0
Accept = Callable[[api.AcceptPairingRequest], Awaitable[object]]


class Client:
    """The running program, its lines as they came."""

    def __init__(self, process: asyncio.subprocess.Process, phone: str, accept: Accept) -> None:
        self._process = process
        self._phone = phone
        self._accept = accept
        self.lines: list[dict[str, Any]] = []

    async def until(self, enough: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Read its lines until `enough` of them have come; the first QR text that it shows links it."""
        assert self._process.stdout is not None
        while not enough(self.lines):
            async with asyncio.timeout(LINE_SECONDS):
                line = await self._process.stdout.readline()
            assert line, f"the client has ended: {self.lines[-3:]}"
            said = json.loads(line)
            if said["event"] == "qr" and not self.of("qr"):
                await self._accept(api.AcceptPairingRequest(qr=said["qr"], phone=self._phone))
            self.lines.append(said)

    async def until_ids(self, event: str, ids: set[str]) -> None:
        """Until a line of this event has come for each id."""
        await self.until(lambda lines: {line["id"] for line in lines if line["event"] == event} >= ids)

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]

    async def send(self, orders: list[dict[str, Any]]) -> None:
        assert self._process.stdin is not None
        for order in orders:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()


@asynccontextmanager
async def linked_client(network: str, root_key: str, phone: str, accept: Accept) -> AsyncIterator[Client]:
    """The program, linked to the account of `phone` by whoever accepts its QR text, and online.

    `network` is host:port, `root_key` hexadecimal.
    """
    process = await asyncio.create_subprocess_exec(
        *(_program(), str(_built() / "client.mjs"), network, root_key),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=1024 * 1024,
    )
    try:
        client = Client(process, phone, accept)
        await client.until(lambda lines: lines != [] and lines[-1]["event"] == "open")
        yield client
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def _built() -> Path:
    require_on_path("npm", "the client of another hand")

    def build(folder: Path) -> None:
        shutil.copytree(PROJECT, folder, dirs_exist_ok=True)
        run(["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], folder)

    return built_once("baileys-client", [PROJECT], build)


def _program() -> str:
    """Node, of a version that the client runs on."""
    require_on_path("node", "the client of another hand")
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"v(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < LEAST_NODE:
        missing_tool(f"node {said.strip()} is older than the client takes")
    return "node"
