"""A process that a watchdog watches: does what the lines on stdin say, and answers each on stdout."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from mesh_core.etcd import boottime
from mesh_core.process.watchdog import WatchdogClient
from mesh_core.settings import EtcdSettings

BEAT_SECONDS = 0.05
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Watched:
    """Each method is one command; `exit_code` is for the end after SIGTERM and SIGINT."""

    def __init__(self, watchdog: WatchdogClient) -> None:
        self._watchdog = watchdog
        self._exit_code: int | None = None
        # A handler would run when `sys.stdin` has something to read, if the signal came just before it waits.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        threading.Thread(target=self._hear, daemon=True).start()

    def introduce(self, cluster: str, incarnation: str, *etcd: str) -> None:
        """`etcd`: endpoints by comma, then username and password, or the three files of TLS."""
        names = ("username", "password") if len(etcd) == 3 else ("ca", "certificate", "key")
        settings = EtcdSettings(
            endpoints=tuple(etcd[0].split(",")), **dict(zip(names, etcd[1:], strict=False))
        )
        self._watchdog.introduce(cluster, incarnation, settings)

    def lease(self, lease: str) -> None:
        self._watchdog.lease(int(lease))

    def hold(self, seconds: str) -> str:
        """Be killed so many seconds from now; answers the instant."""
        instant = boottime() + float(seconds)
        self._watchdog.kill_at(instant)
        return str(instant)

    def keep(self, seconds: str) -> None:
        """Be killed so many seconds from now, and move that on and on."""
        self._forever(lambda: self._watchdog.kill_at(boottime() + float(seconds)))

    def beat(self) -> None:
        """The event loop, once."""
        self._watchdog.loop_heartbeat()

    def beat_on(self) -> None:
        """The event loop, and a keeper that holds nothing."""
        self._forever(self._watchdog.loop_heartbeat)

    def keeper_beat(self) -> None:
        self._watchdog.kill_at(math.inf)

    def keeper_ended(self) -> None:
        self._watchdog.keeper_ended()

    def exit_code(self, code: str) -> None:
        self._exit_code = int(code)

    def leave(self, code: str) -> None:
        os._exit(int(code))

    def orphan(self) -> None:
        """Start a process that ends as an orphan, once PID 1 is its parent; wait for that."""
        ended, ending = os.pipe()
        if os.fork():
            os.close(ending)
            os.read(ended, 1)
        elif os.fork():
            os._exit(0)
        else:
            while os.getppid() != 1:
                time.sleep(BEAT_SECONDS)
            os._exit(0)

    def _hear(self) -> None:
        while True:
            number = signal.sigwait(SIGNALS)
            say(signal.Signals(number).name)
            if self._exit_code is not None and number in (signal.SIGTERM, signal.SIGINT):
                os._exit(self._exit_code)

    @staticmethod
    def _forever(action: Callable[[], None]) -> None:
        def run() -> None:
            while True:
                action()
                time.sleep(BEAT_SECONDS)

        action()
        threading.Thread(target=run, daemon=True).start()


def say(line: str) -> None:
    """In one piece: another thread may come between."""
    os.write(1, f"{line}\n".encode())


def main() -> None:
    watchdog = WatchdogClient.from_environment()
    assert watchdog is not None
    watched = Watched(watchdog)
    say(f"watched {os.getpid()}")
    for line in sys.stdin:
        name, *arguments = line.split()
        say(f"done {getattr(watched, name)(*arguments) or ''}".strip())


if __name__ == "__main__":
    main()
