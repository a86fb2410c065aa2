"""The parent of several routers on one port: `mesh_parent prefork OPTIONS -- COMMAND...`.

    --workers N        how many processes of COMMAND there shall be
    --listen ADDRESS   the port they share, host:port; with port 0 a free one is chosen once
    --metrics ADDRESS  where the first one shows its metrics, the next one a port higher, and so on; with
                       port 0 each chooses a free one

The port is reserved before the first worker starts, and stays so: no other program can take it, though the
workers bind it with SO_REUSEPORT and the kernel spreads new connections over them. A worker that ends by
itself is started again, with a backoff of its own; one that stops beating is killed, and so started again.
All die with their parent.

SIGTERM, SIGINT and SIGHUP are passed on. The first signal drains the workers, the second stops them, and
those that are still there 5 seconds later are killed. The parent ends when all have ended. Its exit code is 0
when all of them drained, else that of the first that did not (128 + signal when a signal ended it). A worker
that finds its settings bad (64), or something to be changed (78), or that cannot start when it is first
started (69), ends all of them.
"""

from __future__ import annotations

import errno
import os
import signal

from mesh_parent import beats
from mesh_parent.beats import Beats
from mesh_parent.children import (
    EXIT_BAD_SETTINGS,
    EXIT_UNAVAILABLE,
    FINAL,
    SAID_WHY,
    Children,
    RestartBackoff,
    boottime,
    ending_facts,
    reap,
    shell_code,
)
from mesh_parent.log import Log
from mesh_parent.port import ReservedPort, port_after

VARIABLE = "MESH_WORKER"
"""The environment variable that tells a worker its number, from 1 on."""

log = Log("sessionmesh-router-parent")

STOP_SECONDS = 5.0
"""Seconds from the second signal until the workers that are left are killed."""
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
USAGE = b"usage: prefork --workers N --listen HOST:PORT --metrics HOST:PORT -- COMMAND...\n"


def main(arguments: list[str]) -> int:
    """Run the workers until they have ended for good; returns the exit code."""
    match arguments:
        case ["--workers", workers, "--listen", listen, "--metrics", metrics, "--", *command] if command:
            pass
        case _:
            os.write(2, USAGE)
            return EXIT_BAD_SETTINGS
    try:
        port = ReservedPort(listen)
    except OSError as error:
        reason = "is another process listening there?" if error.errno == errno.EADDRINUSE else error.strerror
        os.write(2, f"MESH_SERVER_LISTEN={listen!r} cannot be bound: {reason}\n".encode())
        return EXIT_UNAVAILABLE
    log.info("port reserved", address=port.address, workers=int(workers))
    code = Workers(command, port.address, metrics, int(workers)).run()
    port.close()
    return code


def is_worker() -> bool:
    """Whether such a parent started this process, and others that share its port."""
    return VARIABLE in os.environ


class Worker:
    """One of the processes, and how often it was started."""

    def __init__(self, number: int, metrics: str) -> None:
        self.number = number
        self.metrics = metrics
        self.pid = 0
        """0 while there is none."""
        self.starts = 0
        self.start_at = 0.0
        self.beats = Beats()
        self._backoff = RestartBackoff()

    def started(self, pid: int) -> None:
        self.pid = pid
        self.beats.handed_over()
        self.starts += 1
        self._backoff.started()

    def ended(self) -> None:
        self.pid = 0
        self.beats.close()
        self.beats = Beats()
        self.start_at = boottime() + self._backoff.ended()


class Workers:
    """Runs the command in so many processes, each started again when it ends by itself."""

    def __init__(self, command: list[str], listen: str, metrics: str, workers: int) -> None:
        self._command = command
        self._listen = listen
        self._workers = [Worker(number, port_after(metrics, number - 1)) for number in range(1, workers + 1)]
        self._code = 0
        self._signals = 0
        self._kill_at = 0.0
        self._looked_at = boottime()
        self._children = Children(ENDING)

    def run(self) -> int:
        while True:
            if not self._signals:
                self._start_due()
            elif not self._alive():
                return self._code
            number = self._children.next_signal(self._patience())
            if number in ENDING:
                self._end(number)
            self._reap()
            self._kill_frozen()
            if self._kill_at and boottime() >= self._kill_at:
                self._pass_on(signal.SIGKILL)
                self._kill_at = 0.0

    def _start_due(self) -> None:
        for worker in self._workers:
            if not worker.pid and worker.start_at <= boottime():
                environment = {
                    VARIABLE: str(worker.number),
                    "MESH_SERVER_LISTEN": self._listen,
                    "MESH_SERVER_METRICS_LISTEN": worker.metrics,
                    beats.VARIABLE: str(worker.beats.writing),
                }
                worker.started(self._children.start(self._command, environment, (worker.beats.writing,)))
                log.info("worker started", worker=worker.number, pid=worker.pid)

    def _kill_frozen(self) -> None:
        now = boottime()
        asleep = now - self._looked_at - 2 * beats.EVERY_SECONDS
        self._looked_at = now
        for worker in self._alive():
            if asleep > 0:
                worker.beats.forgive(asleep)
            if worker.beats.frozen(now):
                log.error("worker frozen: it is killed", worker=worker.number, pid=worker.pid)
                os.kill(worker.pid, signal.SIGKILL)
                worker.beats.forgive(beats.FROZEN_SECONDS)  # until it is reaped

    def _patience(self) -> float | None:
        """Seconds until a worker is to be started, looked at or killed; None for none of these."""
        due = [worker.start_at for worker in self._workers if not worker.pid and not self._signals]
        if self._kill_at:
            due.append(self._kill_at)
        if self._alive():
            due.append(self._looked_at + beats.EVERY_SECONDS)
        return min(due) - boottime() if due else None

    def _end(self, number: int) -> None:
        """Pass a signal on; nothing is started any more."""
        if not self._signals and not self._alive():
            self._code = self._code or 128 + number  # it is not the workers that ended well
        self._signals += 1
        self._pass_on(number)
        if self._signals == 2:
            self._kill_at = boottime() + STOP_SECONDS

    def _pass_on(self, number: int) -> None:
        for worker in self._alive():
            os.kill(worker.pid, number)

    def _reap(self) -> None:
        for pid, code in reap():
            for worker in self._alive():
                if worker.pid == pid:
                    self._ended(worker, code)

    def _ended(self, worker: Worker, code: int) -> None:
        facts = {"worker": worker.number, "pid": worker.pid, **ending_facts(code)}
        worker.ended()
        cannot_start = code == EXIT_UNAVAILABLE and worker.starts == 1
        if code in FINAL or cannot_start or self._signals:
            self._code = self._code or shell_code(code)
            if not self._signals:
                self._end(signal.SIGTERM)
        else:
            facts["restart_in_seconds"] = round(worker.start_at - boottime(), 1)
        if not {code, self._code} & SAID_WHY:
            log.child_ended("worker ended", code, facts)

    def _alive(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.pid]
