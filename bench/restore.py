"""How long a backup and a restore of a mesh take, and how much of what was written last comes back.

A mesh of one node gets accounts, and rows by the gigabyte that hardly compress, as sealed ones do. It is
backed up and followed while messages are sent, is killed with all that it started, and is restored on an
empty folder; the simulated network goes on meanwhile. The commands run as an operator types them.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

from bench.measuring.report import Report
from bench.mesh.accounts import Customer, make_customer
from bench.mesh.simulated_network import simulated_network
from mesh_cli.backup.archive import PARTIAL_SECONDS
from mesh_cli.up.state import MeshFile, running_mesh
from mesh_client import connect
from sessionmesh.v1 import content_pb2, message_pb2

MEGABYTES, QUICK_MEGABYTES = 1000, 60
ACCOUNTS = 8
ROW_BYTES = 700
FOLLOWED_SECONDS = 3 * PARTIAL_SECONDS
_START_SECONDS = 180.0
_POLL_SECONDS = 0.1


def run(quick: bool) -> Report:
    """Back up, lose and restore one mesh."""
    with tempfile.TemporaryDirectory(prefix="mesh-bench-") as folder, simulated_network() as network:
        place = _Place(Path(folder), network.address)
        figures = asyncio.run(_measure(place, QUICK_MEGABYTES if quick else MEGABYTES))
    notes = (
        "`lost_seconds` is how old the last committed message is that did not come back, when the machine "
        "was lost.",
    )
    return Report("restore", figures, notes=notes)


@dataclass(slots=True)
class _Place:
    """One machine after the other, and where their backups are."""

    folder: Path
    network: str
    recipient: str = ""

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "MESH_SIMNET_ADDRESS": self.network,
            "MESH_BACKUP_URL": (self.folder / "backups").as_uri(),
            "MESH_BACKUP_RECIPIENT": self.recipient,
        }

    def command(self, state: str, *command: str) -> list[str]:
        return [sys.executable, "-m", "mesh_cli", "--state", str(self.folder / state), *command]

    async def run(self, state: str, *command: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *self.command(state, *command), env=self.environment, stdout=asyncio.subprocess.PIPE
        )
        printed, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"mesh {' '.join(command)} ended with status {process.returncode}")
        return printed.decode().strip()

    @contextmanager
    def begun(self, state: str, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """A command that runs on; in the end it is killed with all that it started."""
        process = subprocess.Popen(
            self.command(state, *command), env=self.environment, stdout=subprocess.DEVNULL
        )
        try:
            yield process
        finally:
            with_children = [
                process.pid,
                *(one.pid for one in psutil.Process(process.pid).children(recursive=True)),
            ]
            for pid in with_children:
                if psutil.pid_exists(pid):
                    os.kill(pid, signal.SIGKILL)
            process.wait()

    async def until_up(self, state: str) -> MeshFile:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if mesh := running_mesh(self.folder / state):
                return mesh
            await asyncio.sleep(_POLL_SECONDS)
        raise RuntimeError("the mesh did not start")


async def _measure(place: _Place, megabytes: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    with place.begun("lost", "up", "--port", "0", "--nodes", "1"):
        mesh = await place.until_up("lost")
        customer = await make_customer(mesh.address, mesh.admin_key, ACCOUNTS)
        url = mesh.servers["MESH_DATABASE_URL"]
        await _fill(url, megabytes)
        figures["database_mb"] = await _megabytes(url)
        key = str(place.folder / "key.json")
        place.recipient = await place.run("lost", "backup", "key", key)
        figures["backup_seconds"] = await _timed(place.run("lost", "backup", "run"))
        figures["stored_mb"] = (
            sum(one.stat().st_size for one in (place.folder / "backups").rglob("*.age")) / 1e6
        )
        figures["verify_seconds"] = await _timed(place.run("lost", "backup", "verify", "--key", key))
        with place.begun("lost", "backup", "follow"):
            sent = await _send_until(mesh.address, customer, time.monotonic() + FOLLOWED_SECONDS)
            lost_at = time.monotonic()  # with all that runs on it, so the follower is no longer told anything
    shutil.rmtree(place.folder / "lost")
    figures["restore_seconds"] = await _timed(place.run("new", "restore", "--key", key))
    began = time.monotonic()
    with place.begun("new", "up", "--port", "0", "--nodes", "1"):
        mesh = await place.until_up("new")
        figures["start_seconds"] = time.monotonic() - began
        began = time.monotonic()
        await place.run("new", "restore", "--release")
        await _send_one(mesh.address, customer)
        figures["release_to_first_sent_seconds"] = time.monotonic() - began
        missing = await _missing(mesh.address, customer, sent)
    figures["rto_seconds"] = sum(
        figures[name] for name in ("restore_seconds", "start_seconds", "release_to_first_sent_seconds")
    )
    figures["messages_lost"] = len(missing)
    figures["lost_seconds"] = max((lost_at - at for at in missing), default=0.0)
    return figures


async def _timed(work: Awaitable[object]) -> float:
    began = time.monotonic()
    await work
    return time.monotonic() - began


async def _fill(url: str, megabytes: int) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(_FILL, megabytes * 1_000_000 // (2 * ROW_BYTES), timeout=None)
        await connection.execute("CHECKPOINT", timeout=None)
    finally:
        await connection.close()


async def _megabytes(url: str) -> float:
    connection = await asyncpg.connect(url)
    try:
        return float(await connection.fetchval("SELECT pg_database_size(current_database()) / 1e6"))
    finally:
        await connection.close()


def _message(account: str, number: int) -> message_pb2.SendMessageRequest:
    content = content_pb2.Content(text=content_pb2.TextContent(body=f"message {number}"))
    return message_pb2.SendMessageRequest(
        account_id=account, recipient="phone:+4915112345678", content=content, request_id=f"bench-{number}"
    )


async def _send_until(address: str, customer: Customer, end: float) -> list[tuple[str, str, float]]:
    """Messages that were accepted: account, id, and when."""
    sent: list[tuple[str, str, float]] = []
    async with connect(address, customer.key, transport="plain") as client:
        while time.monotonic() < end:
            account = customer.accounts[len(sent) % ACCOUNTS]
            answer = await client.messages.SendMessage(_message(account, len(sent)))
            sent.append((account, answer.message.id, time.monotonic()))
            await asyncio.sleep(_POLL_SECONDS)
    return sent


async def _send_one(address: str, customer: Customer) -> None:
    async with connect(address, customer.key, transport="plain") as client:
        request = _message(customer.accounts[0], -1)
        request.wait_for = message_pb2.WAIT_FOR_SENT
        await client.messages.SendMessage(request, timeout=_START_SECONDS)


async def _missing(address: str, customer: Customer, sent: list[tuple[str, str, float]]) -> list[float]:
    """When those messages were accepted that are not there any more."""
    found: set[str] = set()
    async with connect(address, customer.key, transport="plain") as client:
        for account in customer.accounts:
            request = message_pb2.ListMessagesRequest(account_id=account, page_size=1000)
            found |= {one.id for one in (await client.messages.ListMessages(request)).messages}
    return [at for _, message, at in sent if message not in found]


_FILL = """WITH filler AS MATERIALIZED (
  SELECT n, gen_random_uuid() AS account, uuid_at(now() - n * interval '1 microsecond') AS id,
    sha512(n::text::bytea) || sha512((-n)::text::bytea) || sha512(('a' || n)::bytea) || sha512(('b' ||
    n)::bytea) || sha512(('c' || n)::bytea) || sha512(('d' || n)::bytea) || convert_to(repeat('x', 200),
    'UTF8') AS body FROM generate_series(1, $1::int) AS n), written AS (
  INSERT INTO message (id, account, epoch, direction, origin, status, chat, content)
    SELECT id, account, 1, 1, 1, 3, 'phone:+49', body FROM filler)
  INSERT INTO event (id, seq, tenant, account, epoch, type, body)
    SELECT uuid_at(now() - n * interval '1 microsecond'), n, account, account, 1, 'message.sent', body FROM
    filler"""
