"""Child processes and signals, as both parents need them: starting, reaping, and waiting for either."""

from __future__ import annotations

import os
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

EXIT_BAD_SETTINGS, EXIT_UNAVAILABLE, EXIT_MISCONFIGURED = 64, 69, 78
FINAL = frozenset({EXIT_BAD_SETTINGS, EXIT_MISCONFIGURED})
"""Codes of a child that will not do better when it is started again."""
SAID_WHY = FINAL | {EXIT_UNAVAILABLE}
"""Codes of a child whose last line is the reason why it could not start: a parent writes none after it."""

FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 0.1, 15.0
STEADY_SECONDS = 30.0
PR_SET_PDEATHSIG = 1


class Children:
    """Starts children, and takes the parent's signals one at a time.

    Makes `signals` and SIGCHLD wait until `next_signal` takes them; children start with the former mask.
    """

    def __init__(self, signals: Sequence[int]) -> None:
        self._handled = (*signals, signal.SIGCHLD)
        self._former_mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._handled)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a forked child would run Python's own handler

    def start(self, command: list[str], environment: Mapping[str, str], inherited: Sequence[int] = ()) -> int:
        """Start a child, which dies with this process; returns its pid.

        It has `environment` beside ours, the file descriptors in `inherited`, and a process group of its own:
        Ctrl-C in a terminal reaches it once, from us. It ends with 64 when `command` cannot be run.
        """
        parent = os.getpid()
        if pid := os.fork():
            return pid
        try:  # the child; this process has one thread, so anything may be done between fork and exec
            _die_with(parent)
            os.setpgid(0, 0)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
                signal.signal(number, signal.SIG_DFL)
            for descriptor in inherited:
                os.set_inheritable(descriptor, True)
            signal.pthread_sigmask(signal.SIG_SETMASK, self._former_mask)
            os.execvpe(command[0], command, os.environ | environment)  # noqa: S606 - its purpose
        except BaseException as error:  # nothing may get past this into the parent's code
            os.write(2, f"{command[0]} cannot be run: {error}\n".encode())
        os._exit(EXIT_BAD_SETTINGS)

    def next_signal(self, seconds: float | None) -> int:
        """Wait for a signal, at most so long (None: for ever); returns its number, 0 when none came."""
        if seconds is None:
            return signal.sigwaitinfo(self._handled).si_signo
        taken = signal.sigtimedwait(self._handled, max(0.0, seconds))
        return taken.si_signo if taken else 0


def reap() -> Iterator[tuple[int, int]]:
    """Reap all that have ended, as PID 1 orphans too: pid and exit code, -N when signal N ended it."""
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended[0], os.waitstatus_to_exitcode(ended[1])
    except ChildProcessError:
        return


def shell_code(exit_code: int) -> int:
    """The exit code as a shell gives it: 128 + N when signal N ended the child."""
    return exit_code if exit_code >= 0 else 128 - exit_code


def ending_facts(exit_code: int) -> dict[str, Any]:
    """How a child ended, for a log line."""
    return {"code": exit_code} if exit_code >= 0 else {"signal": signal.Signals(-exit_code).name}


def boottime() -> float:
    """Seconds on a clock that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class RestartBackoff:
    """How long to wait before a child is started again: from 0.1 s, twice as long each time, up to 15 s."""

    def __init__(self) -> None:
        self._next = FIRST_BACKOFF_SECONDS
        self._started = 0.0

    def started(self) -> None:
        self._started = boottime()

    def ended(self) -> float:
        """Seconds to wait now; the first backoff again when the child lived for 30 s."""
        if boottime() - self._started >= STEADY_SECONDS:
            self._next = FIRST_BACKOFF_SECONDS
        backoff = self._next
        self._next = min(2 * backoff, LONGEST_BACKOFF_SECONDS)
        return backoff


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent` ends."""
    import ctypes  # in the child alone

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it ended before that
        os._exit(128 + signal.SIGKILL)
