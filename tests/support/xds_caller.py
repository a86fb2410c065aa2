"""A program with a stock gRPC channel: what a backend without our client library does. Run by `XdsCaller`.

Called as `python -m tests.support.xds_caller TARGET THREADS ACCOUNT...` with GRPC_XDS_BOOTSTRAP set, it asks
for the sessions of the accounts in turn from each of its threads, without pause; or, with CALLER_SENDS, sends
messages from them. For each command on stdin it prints a line: `report`, what happened since the last one, as
JSON; `pause`, nothing, when the last call has ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

DEADLINE_SECONDS = 20.0
SEND_PAUSE_SECONDS = 0.02
"""So that no account's outbox fills up."""


@dataclass(frozen=True, slots=True)
class Report:
    """`answers` are counts by what the node said, its name and what it saw, or of messages by account.

    `failures` are counts by code and message; `gap` is the longest time between two answers to one thread, in
    seconds.
    """

    answers: dict[str, int]
    failures: dict[str, int]
    gap: float


class XdsCaller:
    """The program as a process of its own: gRPC reads its bootstrap file once per process."""

    def __init__(
        self,
        bootstrap: Mapping[str, Any],
        folder: Path,
        accounts: Sequence[str],
        *,
        key: str,
        target: str = "xds:///sessionmesh",
        threads: int = 2,
        tls: bool = False,
        sends: bool = False,
    ) -> None:
        place = folder / f"bootstrap-{id(self)}.json"
        place.write_text(json.dumps(bootstrap))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.xds_caller", target, str(threads), *accounts],
            env={
                **os.environ,
                "GRPC_XDS_BOOTSTRAP": str(place),
                "CALLER_KEY": key,
                "CALLER_TLS": str(tls),
                "CALLER_SENDS": str(sends),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    async def report(self) -> Report:
        """What happened since the last report."""
        return await asyncio.to_thread(self._report)

    async def pause(self) -> None:
        """Let the calls in flight end and make no more: the next report is the last one."""
        await asyncio.to_thread(self._tell, "pause")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        # Elsewhere: the nodes that its last calls wait for run on this loop.
        await asyncio.to_thread(self._end)

    def _report(self) -> Report:
        return Report(**json.loads(self._tell("report")))

    def _tell(self, command: str) -> str:
        _pipe(self._process.stdin).write(f"{command}\n")
        _pipe(self._process.stdin).flush()
        return _pipe(self._process.stdout).readline()

    def _end(self) -> None:
        _pipe(self._process.stdin).close()
        self._process.wait(DEADLINE_SECONDS * 2)
        _pipe(self._process.stdout).close()


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@dataclass(slots=True)
class _Tally:
    answers: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    gap: float = 0.0
    last: float = field(default_factory=time.monotonic)


def main() -> None:
    """The program."""
    import grpc

    from sessionmesh.v1 import message_pb2_grpc, session_pb2, session_pb2_grpc
    from tests.support.mesh_api import text_message

    target, threads, *accounts = sys.argv[1:]
    if os.environ["CALLER_TLS"] == "True":
        channel = grpc.secure_channel(target, grpc.xds_channel_credentials())  # files: the bootstrap's
    else:
        channel = grpc.insecure_channel(target)
    sessions = session_pb2_grpc.SessionServiceStub(channel)
    messages = message_pb2_grpc.MessageServiceStub(channel)
    sends = os.environ["CALLER_SENDS"] == "True"
    authorization = ("authorization", f"Bearer {os.environ['CALLER_KEY']}")
    lock, ended = threading.Lock(), threading.Event()
    tallies = [_Tally() for _ in range(int(threads))]

    def answer_of(account: str) -> str:
        metadata = (authorization, ("x-account-id", account))
        if sends:
            messages.SendMessage(text_message(account), metadata=metadata, timeout=DEADLINE_SECONDS)
            time.sleep(SEND_PAUSE_SECONDS)
            return account
        request = session_pb2.GetSessionRequest(account_id=account)
        found = sessions.GetSession(request, metadata=metadata, timeout=DEADLINE_SECONDS).session
        return f"{found.node_id} {found.detail}"

    def call(n: int) -> None:
        at = n
        while not ended.is_set():
            account = accounts[at % len(accounts)]
            at += 1
            try:
                answer, failure = answer_of(account), ""
            except grpc.RpcError as error:
                failure = f"{error.code().name} {error.details()}"
            with lock:
                tally = tallies[n]
                now = time.monotonic()
                if failure:
                    tally.failures[failure] += 1
                    time.sleep(0.01)
                else:
                    tally.answers[answer] += 1
                    tally.gap = max(tally.gap, now - tally.last)
                    tally.last = now

    workers = [threading.Thread(target=call, args=(n,)) for n in range(int(threads))]
    for worker in workers:
        worker.start()
    for command in sys.stdin:
        if command == "pause\n":
            ended.set()
            for worker in workers:
                worker.join()
            print(flush=True)  # noqa: T201
            continue
        with lock:
            answers: Counter[str] = sum((tally.answers for tally in tallies), Counter())
            failures: Counter[str] = sum((tally.failures for tally in tallies), Counter())
            gap = max(tally.gap for tally in tallies)
            for n, tally in enumerate(tallies):
                tallies[n] = _Tally(last=tally.last)
        print(json.dumps({"answers": answers, "failures": failures, "gap": gap}), flush=True)  # noqa: T201
    ended.set()
    for worker in workers:
        worker.join()
    channel.close()


if __name__ == "__main__":
    main()
