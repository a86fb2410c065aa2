"""The parent of all jobs: has the libraries loaded, and forks a process for each job.

Started by the service with a socket as standard input. Each message there brings a connection: the job comes
over it, the answer and the process's exit status go back, each after its length in four bytes. Closing the
connection kills the job with all that it has started, closing standard input ends everything.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from contextlib import suppress

import msgspec

from mesh_media.processing.jobs import Answer, Job
from mesh_media.processing.worker import sandbox
from mesh_media.processing.worker.dispatch import process
from mesh_media.processing.worker.picture_files import forbid_other_loaders


def main() -> None:
    """Runs until standard input is closed."""
    sandbox.cut_network()
    forbid_other_loaders()
    woken, wakeup = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(wakeup, False)
    signal.set_wakeup_fd(wakeup)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with socket.socket(fileno=0) as control:
        Host(control, woken).serve()


class Host:
    """The jobs that run, by process id."""

    def __init__(self, control: socket.socket, woken: int) -> None:
        self._control = control
        self._woken = woken
        self._jobs: dict[int, socket.socket] = {}
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._poll.register(woken, select.POLLIN)

    def serve(self) -> None:
        """Forks, reaps and kills until the service is gone."""
        while True:
            for descriptor, _events in self._poll.poll():
                if descriptor == self._control.fileno():
                    if not self._accept():
                        return self._kill_all()
                elif descriptor == self._woken:
                    self._reap()
                else:  # nobody waits for this job any more
                    self._poll.unregister(descriptor)
                    self._kill(descriptor)

    def _accept(self) -> bool:
        _, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
        if not descriptors:
            return False
        connection = socket.socket(fileno=descriptors[0])
        parent = os.getpid()
        if (pid := os.fork()) == 0:
            self._be_child(connection, parent)
        with suppress(OSError):  # the child does it too; whoever comes first
            os.setpgid(pid, pid)
        self._jobs[pid] = connection
        self._poll.register(connection, 0)  # tells of its end alone
        return True

    def _be_child(self, connection: socket.socket, parent: int) -> None:
        try:
            sandbox.die_with(parent)
            os.setpgid(0, 0)
            for other in (self._control, *self._jobs.values()):
                other.close()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            job = msgspec.msgpack.decode(_receive(connection), type=Job)
            sandbox.limit(job)
            answer: Answer = process(job)
            _send(connection, msgspec.msgpack.encode(answer))
        except BaseException:  # nothing may get past this into the parent's code
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def _reap(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self._woken, 64):
                pass
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._ended(*ended)

    def _ended(self, pid: int, status: int) -> None:
        with suppress(ProcessLookupError):  # what it has started
            os.killpg(pid, signal.SIGKILL)
        connection = self._jobs.pop(pid)
        with suppress(KeyError):
            self._poll.unregister(connection)
        with suppress(OSError):  # nobody waits
            _send(connection, msgspec.msgpack.encode(os.waitstatus_to_exitcode(status)))
        connection.close()

    def _kill(self, descriptor: int) -> None:
        for pid, connection in self._jobs.items():
            if connection.fileno() == descriptor:
                os.killpg(pid, signal.SIGKILL)

    def _kill_all(self) -> None:
        for pid in self._jobs:
            os.killpg(pid, signal.SIGKILL)


_LENGTH = struct.Struct(">I")


def _send(connection: socket.socket, message: bytes) -> None:
    """Send one message."""
    connection.sendall(_LENGTH.pack(len(message)) + message)


def _receive(connection: socket.socket) -> bytes:
    """The next message; raises `EOFError` when there is none."""
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    return _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = connection.recv(count, socket.MSG_WAITALL)
    if len(data) < count:
        raise EOFError
    return data


if __name__ == "__main__":
    main()
