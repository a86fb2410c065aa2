"""The parent of several routers on one port: `python -I -S -E workers.py OPTIONS -- COMMAND...`.

    --workers N        how many processes of COMMAND there shall be
    --listen ADDRESS   the port they share, host:port; with port 0 a free one is chosen once
    --metrics ADDRESS  where the first one shows its metrics, the next one a port higher, and so on; with
                       port 0 each chooses a free one

The port is reserved before the first worker starts, and stays so: no other program can take it, though the
workers bind it with SO_REUSEPORT and the kernel spreads new connections over them. A worker that ends by
itself is started again, with a backoff of its own. All die with their parent.

SIGTERM, SIGINT and SIGHUP are passed on. The first signal drains the workers, the second stops them, and
those that are still there 5 seconds later are killed. The parent ends when all have ended. Its exit code is 0
when all of them drained, else that of the first that did not (128 + signal when a signal ended it). A worker
that finds its settings bad (64), or that cannot start when it is first started (69), ends all of them.

One file that imports little of the standard library and nothing else, to stay small. It logs as the services
do.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VARIABLE = "MESH_WORKER"
"""The environment variable that tells a worker its number, from 1 on."""

FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 0.1, 15.0
STEADY_SECONDS = 30.0
STOPPED_MAY_TAKE = 5.0

EXIT_BAD_SETTINGS, EXIT_UNAVAILABLE = 64, 69
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
HANDLED = (*ENDING, signal.SIGCHLD)
PR_SET_PDEATHSIG = 1
USAGE = b"usage: workers.py --workers N --listen HOST:PORT --metrics HOST:PORT -- COMMAND...\n"


def main(arguments: list[str]) -> int:
    """Run the workers until they have ended for good; returns the exit code."""
    match arguments:
        case ["--workers", workers, "--listen", listen, "--metrics", metrics, "--", *command] if command:
            pass
        case _:
            os.write(2, USAGE)
            return EXIT_BAD_SETTINGS
    try:
        listen, reserved = reserve(listen)
    except OSError as error:
        reason = "is another process listening there?" if error.errno == errno.EADDRINUSE else error.strerror
        os.write(2, f"MESH_SERVER_LISTEN={listen!r} cannot be bound: {reason}\n".encode())
        return EXIT_UNAVAILABLE
    log("info", "port reserved", address=listen, workers=int(workers))
    code = Workers(command, listen, metrics, int(workers)).run()
    for one in reserved:
        one.close()
    return code


def reserve(listen: str) -> tuple[str, list[socket.socket]]:
    """Bind `listen` (host:port), without listening; returns it with its port, and what keeps it reserved.

    From then on only sockets of this user with SO_REUSEPORT can bind it. Raises OSError when anyone has it.
    """
    host, _, port = listen.rpartition(":")
    chosen, reserved = int(port), []
    for family, kind, _, _, address in socket.getaddrinfo(host.strip("[]"), chosen, type=socket.SOCK_STREAM):
        one = socket.socket(family, kind)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Connections of an earlier process that are not over yet are no reason to refuse; a listener is.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((address[0], chosen, *address[2:]))
        # Only now: bound with SO_REUSEPORT, it would have joined others that share the port already.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        chosen = one.getsockname()[1]
        reserved.append(one)
    return f"{host}:{chosen}", reserved


class Worker:
    """One of the processes, and how often it was started."""

    def __init__(self, number: int, metrics: str) -> None:
        self.number = number
        self.metrics = metrics
        self.pid = 0
        """0 while there is none."""
        self.starts = 0
        self.start_at = 0.0
        self._backoff = FIRST_BACKOFF_SECONDS
        self._began = 0.0

    def began(self, pid: int) -> None:
        self.pid = pid
        self.starts += 1
        self._began = boottime()

    def ended(self) -> None:
        """It is to be started again, later each time that it did not live long."""
        self.pid = 0
        now = boottime()
        if now - self._began >= STEADY_SECONDS:
            self._backoff = FIRST_BACKOFF_SECONDS
        self.start_at = now + self._backoff
        self._backoff = min(2 * self._backoff, LONGEST_BACKOFF_SECONDS)


class Workers:
    """Starts the command again and again, as often at a time as asked."""

    def __init__(self, command: list[str], listen: str, metrics: str, workers: int) -> None:
        self._command = command
        self._listen = listen
        self._workers = [Worker(number, metrics_of(metrics, number)) for number in range(1, workers + 1)]
        self._code = 0
        self._signals = 0
        self._kill_at = 0.0
        self._former_mask = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own handler would be the forked child's, too

    def run(self) -> int:
        while True:
            if not self._signals:
                self._start_due()
            elif not self._alive():
                return self._code
            self._take_signal()
            self._reap()
            if self._kill_at and boottime() >= self._kill_at:
                self._pass_on(signal.SIGKILL)
                self._kill_at = 0.0

    def _start_due(self) -> None:
        for worker in self._workers:
            if not worker.pid and worker.start_at <= boottime():
                worker.began(self._start(worker))
                log("info", "worker started", worker=worker.number, pid=worker.pid)

    def _start(self, worker: Worker) -> int:
        parent = os.getpid()
        if pid := os.fork():
            return pid
        try:  # the child; this process has one thread, so anything may be done between fork and exec
            _die_with(parent)
            # A process group of its own: Ctrl-C in a terminal reaches it once, from us.
            os.setpgid(0, 0)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
                signal.signal(number, signal.SIG_DFL)
            environment = os.environ | {
                VARIABLE: str(worker.number),
                "MESH_SERVER_LISTEN": self._listen,
                "MESH_SERVER_METRICS_LISTEN": worker.metrics,
            }
            signal.pthread_sigmask(signal.SIG_SETMASK, self._former_mask)
            os.execvpe(self._command[0], self._command, environment)  # noqa: S606 - its purpose
        except BaseException as error:  # nothing may get past this into the parent's code
            os.write(2, f"{self._command[0]} cannot be run: {error}\n".encode())
        os._exit(EXIT_BAD_SETTINGS)

    def _take_signal(self) -> None:
        """Wait for a signal, or until a worker is to be started or those left are to be killed."""
        due = [worker.start_at for worker in self._workers if not worker.pid and not self._signals]
        if self._kill_at:
            due.append(self._kill_at)
        if due:
            taken = signal.sigtimedwait(HANDLED, max(0.0, min(due) - boottime()))
        else:
            taken = signal.sigwaitinfo(HANDLED)
        if taken is not None and taken.si_signo in ENDING:
            self._end(taken.si_signo)

    def _end(self, number: int) -> None:
        """Pass a signal on; nothing is started any more."""
        if not self._signals and not self._alive():
            self._code = 128 + number  # it is not the workers that ended well
        self._signals += 1
        self._pass_on(number)
        if self._signals == 2:
            self._kill_at = boottime() + STOPPED_MAY_TAKE

    def _pass_on(self, number: int) -> None:
        for worker in self._alive():
            os.kill(worker.pid, number)

    def _reap(self) -> None:
        """Take note of all that have ended: workers, and as PID 1 any orphan."""
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                for worker in self._alive():
                    if worker.pid == ended[0]:
                        self._ended(worker, os.waitstatus_to_exitcode(ended[1]))
        except ChildProcessError:
            return

    def _ended(self, worker: Worker, code: int) -> None:
        facts: dict[str, Any] = {"worker": worker.number, "pid": worker.pid}
        facts |= {"code": code} if code >= 0 else {"signal": signal.Signals(-code).name}
        worker.ended()
        cannot_start = code == EXIT_UNAVAILABLE and worker.starts == 1
        if code == EXIT_BAD_SETTINGS or cannot_start or self._signals:
            self._code = self._code or (code if code >= 0 else 128 - code)
            if not self._signals:
                self._end(signal.SIGTERM)
        else:
            facts["restart_in_seconds"] = round(worker.start_at - boottime(), 1)
        log("info" if code == 0 else "error", "worker ended", **facts)

    def _alive(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.pid]


def metrics_of(first: str, number: int) -> str:
    """Where worker `number` shows its metrics, when the first does at `first` (host:port)."""
    host, _, port = first.rpartition(":")
    return f"{host}:{int(port) + number - 1}" if int(port) else first


def log(level: str, event: str, **facts: Any) -> None:
    """One line in the services' form. Lost when nobody reads stderr: that must not hold up the workers."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
    line = {
        **facts,
        "event": event,
        "level": level,
        "timestamp": stamp,
        "service": "sessionmesh-router-parent",
    }
    poll = select.poll()
    poll.register(2, select.POLLOUT)
    try:
        if poll.poll(0):
            os.write(2, json.dumps(line).encode()[: select.PIPE_BUF - 1] + b"\n")
    except OSError:
        return


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent` ends."""
    import ctypes  # in the child alone

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it ended before that
        os._exit(128 + signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
