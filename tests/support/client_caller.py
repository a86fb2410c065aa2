"""A program with the Python client, in a process of its own: gRPC has one xDS bootstrap a process.

Run by `client_caller` as `python -m tests.support.client_caller`, it reads commands from stdin, a line of
JSON each, and prints what came of each, likewise. `connect` gives the client that the next commands call.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LINE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the accounts' nodes answered, in the order of the calls, or why not; and the transport then."""

    answers: list[str]
    failures: list[str]
    transport: str


class ClientCaller:
    """The program as a test sees it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def connect(
        self, target: str, key: str, *, transport: str = "auto", tls: dict[str, str] | None = None
    ) -> None:
        await self._ask({"connect": target, "key": key, "transport": transport, "tls": tls})

    async def call(self, *accounts: str, streaming: bool = False) -> Outcome:
        """Ask for the sessions of the accounts, one after the other; or watch each until it answers."""
        return Outcome(**await self._ask({"accounts": accounts, "streaming": streaming}))

    async def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        async with asyncio.timeout(LINE_SECONDS):
            line = await self._process.stdout.readline()
        assert line, "the program has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer


@asynccontextmanager
async def client_caller(**environment: str) -> AsyncIterator[ClientCaller]:
    """Ends well, or the test fails."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.client_caller"),
        env={**os.environ, **environment},
        stdin=PIPE,
        stdout=PIPE,
    )
    try:
        yield ClientCaller(process)
        assert process.stdin is not None
        process.stdin.close()
        async with asyncio.timeout(LINE_SECONDS):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def main() -> None:
    """The program."""
    from contextlib import AsyncExitStack

    from mesh_client import Client, Tls, connect

    async with AsyncExitStack() as stack:
        clients: list[Client] = []
        while line := await asyncio.to_thread(sys.stdin.readline):
            command = json.loads(line)
            answer: dict[str, Any] = {}
            if "connect" in command:
                tls = Tls(**contents(command["tls"])) if command["tls"] else None
                client = connect(command["connect"], command["key"], transport=command["transport"], tls=tls)
                clients.append(await stack.enter_async_context(client))
            else:
                answer = await calls(clients[-1], command["accounts"], command["streaming"])
            print(json.dumps(answer), flush=True)  # noqa: T201


def contents(files: dict[str, str]) -> dict[str, bytes]:
    return {name: Path(path).read_bytes() for name, path in files.items()}


async def calls(client: Any, accounts: list[str], streaming: bool) -> dict[str, Any]:
    from mesh_client import MeshCallError
    from sessionmesh.v1 import session_pb2

    answers, failures = [], []
    for account in accounts:
        try:
            if streaming:
                session = await anext(client.watch_session(account))
            else:
                request = session_pb2.GetSessionRequest(account_id=account)
                session = (await client.sessions.GetSession(request)).session
            answers.append(f"{session.node_id} {session.detail}")
        except MeshCallError as error:
            failures.append(str(error))
    return {"answers": answers, "failures": failures, "transport": client.transport}


if __name__ == "__main__":
    asyncio.run(main())
