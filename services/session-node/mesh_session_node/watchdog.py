"""The parent of a session-node: `python -I -S -E watchdog.py [--silence SECONDS] -- COMMAND...`.

Runs COMMAND as its child, which tells by a page of shared memory (`mesh_core.process.watchdog`) until when it
may live. The child is killed (SIGKILL) at that instant, or when its event loop or its keeper has been
silent for 10 seconds. Once it is reaped, and no earlier, its incarnation is recorded as dead in etcd and
its lease revoked, so that others take over at once; then it is started again, with a backoff. It dies with
its parent.

SIGTERM, SIGINT, SIGHUP, SIGUSR1 and SIGUSR2 are passed on. The parent ends, with the child's exit code (128 +
signal when a signal ended it), once the child ended after SIGTERM or SIGINT or by a signal that was passed
on, or with exit code 64, bad settings. `--silence` is for tests.

One file that imports little of the standard library and nothing else, to stay small: there is one of these
beside every session-node. It logs as the services do.
"""

from __future__ import annotations

import binascii
import json
import math
import mmap
import os
import select
import signal
import socket
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from ssl import SSLContext
    from typing import Any

VARIABLE = "MESH_WATCHDOG_FD"
LAYOUT_VERSION = 1
PAGE_BYTES = 16384
LAYOUT = {
    "version": 0,
    "kill_at": 8,
    "keeper_beat": 16,
    "loop_beat": 24,
    "lease": 32,
    "hello_length": 40,
    "hello": 48,
}

SILENCE_SECONDS = 10.0
LOOK_SECONDS = 0.1
"""How often the page is read: a deadline that comes nearer is seen so soon."""
FROZEN_SECONDS = 1.0
"""A look so late means that this process was stopped, and perhaps the child with it."""
THAW_SECONDS = 2.0
"""After that the child may beat first, before its silence counts. Its deadline counts at once."""
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 0.1, 15.0
STEADY_SECONDS = 30.0

ATTEMPT_SECONDS = 1.0
ROUND_PAUSE_SECONDS = 0.2
RECORD_SECONDS = 3.0
"""How long etcd is tried, every endpoint in turn, before the child is started again."""
EVIDENCE_TTL_SECONDS = 600
"""Longer than anyone needs it: whoever takes a shard over marks the incarnation as expired for good."""

EXIT_BAD_SETTINGS = 64
ENDING = (signal.SIGTERM, signal.SIGINT)
PASSED_ON = (*ENDING, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
HANDLED = (*PASSED_ON, signal.SIGCHLD)
PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Watch the command until it ends for good; returns the exit code."""
    options, separator, command = _split(arguments)
    silence = SILENCE_SECONDS
    if options[:1] == ["--silence"] and len(options) == 2:
        silence, options = float(options[1]), []
    if options or not separator or not command:
        os.write(2, b"usage: watchdog.py [--silence SECONDS] -- COMMAND...\n")
        return EXIT_BAD_SETTINGS
    return Watchdog(command, silence).run()


class Watchdog:
    """Starts the command again and again, and watches over each start."""

    def __init__(self, command: list[str], silence: float) -> None:
        self._command = command
        self._silence = silence
        self._asked_to_end = False
        self._passed_on: set[int] = set()
        self._former_mask = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own handler would be the forked child's, too

    def run(self) -> int:
        backoff = FIRST_BACKOFF_SECONDS
        while True:
            page, began = Page(), boottime()
            pid = self._start(page)
            log("info", "child started", pid=pid)
            status, reason = self._watch(pid, page)
            self._reaped(pid, status, reason, page)
            page.close()
            code = os.waitstatus_to_exitcode(status)
            if self._asked_to_end or code == EXIT_BAD_SETTINGS or -code in self._passed_on:
                return _shell_code(code)
            if boottime() - began >= STEADY_SECONDS:
                backoff = FIRST_BACKOFF_SECONDS
            log("info", "restarting the child", seconds=backoff)
            if ending := self._pause(backoff):
                return 128 + ending
            backoff = min(2 * backoff, LONGEST_BACKOFF_SECONDS)

    def _start(self, page: Page) -> int:
        parent = os.getpid()
        self._passed_on.clear()
        if pid := os.fork():
            return pid
        try:  # the child; this process has one thread, so anything may be done between fork and exec
            _die_with(parent)
            # A process group of its own: Ctrl-C in a terminal reaches it once, from us.
            os.setpgid(0, 0)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
                signal.signal(number, signal.SIG_DFL)
            os.set_inheritable(page.descriptor, True)
            environment = os.environ | {VARIABLE: str(page.descriptor)}
            signal.pthread_sigmask(signal.SIG_SETMASK, self._former_mask)
            os.execvpe(self._command[0], self._command, environment)  # noqa: S606 - its purpose
        except BaseException as error:  # nothing may get past this into the parent's code
            os.write(2, f"{self._command[0]} cannot be run: {error}\n".encode())
        os._exit(EXIT_BAD_SETTINGS)

    def _watch(self, pid: int, page: Page) -> tuple[int, str]:
        """Wait until the child is reaped; returns its wait status, and why it was killed if we did that."""
        reason = ""
        looked, lenient_until = boottime(), 0.0
        while True:
            if (status := _reap(pid)) is not None:
                return status, reason
            now = boottime()
            if now - looked > FROZEN_SECONDS:
                lenient_until = now + THAW_SECONDS
            looked = now
            silence = math.inf if now < lenient_until else self._silence
            if not reason and (reason := page.verdict(now, silence)):
                os.kill(pid, signal.SIGKILL)
                log("error", "child killed", pid=pid, reason=reason)
            left = math.inf if reason else page.kill_at - boottime()
            self._take_signal(max(0.0, min(left, LOOK_SECONDS)), pid)

    def _pause(self, seconds: float) -> int:
        """Wait that long, without a child; returns the signal that asks to end, if one came."""
        until = boottime() + seconds
        while (left := until - boottime()) > 0:
            number = self._take_signal(left, 0)
            _reap(0)
            if number in ENDING:
                return number
        return 0

    def _take_signal(self, seconds: float, pid: int) -> int:
        """Wait for a signal at most so long; one to be passed on goes to `pid`."""
        taken = signal.sigtimedwait(HANDLED, seconds)
        number = taken.si_signo if taken else 0
        if number in PASSED_ON and pid:
            os.kill(pid, number)
            self._passed_on.add(number)
            self._asked_to_end |= number in ENDING
        return number

    def _reaped(self, pid: int, status: int, reason: str, page: Page) -> None:
        code = os.waitstatus_to_exitcode(status)
        facts: dict[str, Any] = {"pid": pid}
        facts |= {"code": code} if code >= 0 else {"signal": signal.Signals(-code).name}
        hello = page.hello()
        if code != 0 and hello:
            _record(hello, page.lease, facts | {"reason": reason})
        log("info" if code == 0 else "error", "child ended", **facts)


class Page:
    """What the child says: one page of memory in a file that has no name."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("mesh-watchdog")
        os.ftruncate(self.descriptor, PAGE_BYTES)
        self._memory = mmap.mmap(self.descriptor, PAGE_BYTES)
        struct.pack_into("q", self._memory, LAYOUT["version"], LAYOUT_VERSION)
        struct.pack_into("d", self._memory, LAYOUT["kill_at"], math.inf)

    def close(self) -> None:
        self._memory.close()
        os.close(self.descriptor)

    @property
    def kill_at(self) -> float:
        return self._double("kill_at")

    @property
    def lease(self) -> int:
        return self._integer("lease")

    def verdict(self, now: float, silence: float) -> str:
        """Why the child must be killed now, by what the page says at this moment; "" when it may live."""
        if now >= self.kill_at:
            return "deadline passed"
        for name, who in (("loop_beat", "event loop"), ("keeper_beat", "keeper")):
            beat = self._double(name)
            if beat and now - beat >= silence:
                return f"no beat of the {who} for {now - beat:.1f} s"
        return ""

    def hello(self) -> dict[str, Any]:
        """Who the child was, and where that is to be told; empty when it did not get so far."""
        length = self._integer("hello_length")
        start = LAYOUT["hello"]
        return json.loads(self._memory[start : start + length]) if length else {}

    def _double(self, name: str) -> float:
        return struct.unpack_from("d", self._memory, LAYOUT[name])[0]  # type: ignore[no-any-return] # a double

    def _integer(self, name: str) -> int:
        return struct.unpack_from("q", self._memory, LAYOUT[name])[0]  # type: ignore[no-any-return] # an int64


def _record(hello: Mapping[str, Any], lease: int, facts: Mapping[str, Any]) -> None:
    """Record the child as dead and revoke its lease. When etcd stays away, the TTL will have to do."""
    incarnation, began = hello["incarnation"], time.monotonic()
    key = f"/{hello['cluster']}/dead/{incarnation}"
    failure = ""
    while time.monotonic() - began < RECORD_SECONDS:
        for endpoint in hello["endpoints"]:
            try:
                gateway = Gateway(endpoint, hello)
                # The evidence first: with the lease its keys vanish, and the others look for the evidence.
                gateway.put(key, json.dumps(dict(facts)), EVIDENCE_TTL_SECONDS)
                if lease:
                    gateway.revoke(lease)
            except (OSError, ValueError, LookupError) as error:
                failure = f"{endpoint}: {error}"
                continue
            took = round((time.monotonic() - began) * 1000, 1)
            log("info", "recorded dead in etcd", incarnation=incarnation, milliseconds=took)
            return
        time.sleep(ROUND_PAUSE_SECONDS)
    log("error", "not recorded dead in etcd", incarnation=incarnation, reason=failure)


class Gateway:
    """The JSON gateway of one etcd member. Raises OSError, ValueError or LookupError when it fails us.

    Over plain sockets: `http.client` would double what this process takes, and the time until the evidence.
    """

    def __init__(self, endpoint: str, hello: Mapping[str, Any]) -> None:
        host, _, port = endpoint.rpartition(":")
        self._endpoint = endpoint
        self._address = (host.strip("[]"), int(port))
        self._tls = _tls(hello)
        self._token = ""
        if hello["username"]:
            login = {"name": hello["username"], "password": hello["password"]}
            self._token = self._call("/v3/auth/authenticate", login)["token"]

    def put(self, key: str, value: str, ttl: int) -> None:
        granted = self._call("/v3/lease/grant", {"TTL": ttl})
        self._call("/v3/kv/put", {"key": _base64(key), "value": _base64(value), "lease": granted["ID"]})

    def revoke(self, lease: int) -> None:
        """A lease that is gone already is fine."""
        self._call("/v3/lease/revoke", {"ID": str(lease)}, missing_is_fine=True)

    def _call(self, path: str, body: dict[str, Any], *, missing_is_fine: bool = False) -> dict[str, Any]:
        content = json.dumps(body)
        # HTTP/1.0: the answer comes whole, and ends with the connection.
        head = f"POST {path} HTTP/1.0\r\nHost: {self._endpoint}\r\nContent-Type: application/json\r\n"
        if self._token:
            head += f"Authorization: {self._token}\r\n"
        request = f"{head}Content-Length: {len(content)}\r\n\r\n{content}".encode()
        connection = socket.create_connection(self._address, ATTEMPT_SECONDS)
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_hostname=self._address[0])
        with connection:
            connection.sendall(request)
            answer = b""
            while received := connection.recv(65536):
                answer += received
        head_line, _, _ = answer.partition(b"\r\n")
        _, _, answered = answer.partition(b"\r\n\r\n")
        status = int(head_line.split()[1])
        if status != 200 and not (status == 404 and missing_is_fine):
            raise ValueError(f"{path} answered {status}: {answered[:200].decode(errors='replace')}")
        decoded: dict[str, Any] = json.loads(answered)
        return decoded


def log(level: str, event: str, **facts: Any) -> None:
    """One line in the services' form. Lost when nobody reads stderr: that must not hold up the watch."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
    line = {**facts, "event": event, "level": level, "timestamp": stamp, "service": "sessionmesh-watchdog"}
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


def _reap(pid: int) -> int | None:
    """Reap what has ended: the child `pid`, whose wait status is returned, and as PID 1 any orphan."""
    found = None
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == pid:
                found = ended[1]
    except ChildProcessError:
        return found
    return found


def _tls(hello: Mapping[str, Any]) -> SSLContext | None:
    if not hello["ca"]:
        return None
    import ssl  # 4 MB that most have no use for

    context = ssl.create_default_context(cafile=hello["ca"])
    if hello["certificate"]:
        context.load_cert_chain(hello["certificate"], hello["key"])
    return context


def _base64(text: str) -> str:
    return binascii.b2a_base64(text.encode(), newline=False).decode()


def _split(arguments: list[str]) -> tuple[list[str], bool, list[str]]:
    """What stands before and after `--`, and whether it is there."""
    if "--" not in arguments:
        return arguments, False, []
    place = arguments.index("--")
    return arguments[:place], True, arguments[place + 1 :]


def _shell_code(code: int) -> int:
    """128 + signal for a process that a signal ended."""
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
